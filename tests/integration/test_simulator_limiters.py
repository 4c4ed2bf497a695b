"""Limiters of the simulator over a real socket: each kind, each way to state the wait, headers on every response."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limiters import KINDS, Kind
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

DEFAULTS = SimulatorConfig().model_dump(mode="json")
# No test takes so long: what is used stays used.
WINDOW_S = 3600.0


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.configure(**DEFAULTS)
    running.reset()
    return running


def call(simulator: SimulatorProcess, model: str = "mira", **fields: Any) -> requests.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]} | fields
    headers = {"Authorization": "Bearer a-key"}
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{simulator.url}/chat/completions", json=body, headers=headers, timeout=20)


@pytest.mark.parametrize("kind", KINDS)
def test_each_limiter_admits_its_rate_and_states_a_wait(simulator: SimulatorProcess, kind: Kind) -> None:
    simulator.configure(rate=3, rate_window_s=WINDOW_S, limiter=kind, retry_after_form="integer", burst=None)
    admitted = 1 if kind == "leaky-bucket" else 3

    responses = [call(simulator) for _ in range(admitted + 2)]

    assert [response.status_code for response in responses] == [200] * admitted + [429] * 2
    wait_s = int(responses[-1].headers["Retry-After"])
    longest_s = {"sliding-log": WINDOW_S, "token-bucket": WINDOW_S / 3, "leaky-bucket": WINDOW_S / 3}
    assert 0 < wait_s <= longest_s.get(kind, WINDOW_S)


def test_a_call_is_admitted_when_the_wait_that_was_stated_is_over(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=20, rate_window_s=10, limiter="token-bucket", burst=1, retry_after_form="ms")
    # On a slow machine, a call may come so late that it is admitted.
    rejected = next(response for response in (call(simulator) for _ in range(50)) if response.status_code == 429)

    wait_ms = int(rejected.headers["retry-after-ms"])
    assert 0 < wait_ms <= 500
    time.sleep(wait_ms / 1000)
    assert call(simulator).status_code == 200


def test_calls_in_the_queue_of_a_leaky_bucket_are_delayed(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=10, rate_window_s=1, limiter="leaky-bucket", burst=5, log_calls=True)

    for _ in range(3):
        assert call(simulator, stream=False).status_code == 200

    first, _, third = simulator.calls()
    assert third["left_s"] >= first["came_s"] + 0.19


@pytest.mark.parametrize(
    ("form", "header", "pattern"),
    [
        ("unix", "Retry-After", r"[12]\d{9}"),
        ("ms", "retry-after-ms", r"[1-9]\d+"),
        ("x-ms", "x-ms-retry-after-ms", r"[1-9]\d+"),
        ("fraction", "Retry-After", r"\d+\.\d{3}"),
    ],
)
def test_a_wait_is_stated_in_one_header_only(simulator: SimulatorProcess, form: str, header: str, pattern: str) -> None:
    simulator.configure(rate=1, rate_window_s=WINDOW_S, limiter="fixed-window", retry_after_form=form)
    call(simulator)
    headers = call(simulator).headers

    assert re.fullmatch(pattern, headers[header])
    assert [name for name in headers if "etry" in name.lower()] == [header]


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (
            "openai",
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": r"59",
                "x-ratelimit-reset-requests": r"59m\d+(\.\d+)?s|1h0m0s",
            },
        ),
        ("seconds", {"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": r"3[56]\d\d"}),
        ("unix", {"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": r"[12]\d{9}"}),
        ("unix-ms", {"X-RateLimit-Remaining": "59", "X-RateLimit-Reset": r"[12]\d{12}"}),
        ("draft", {"RateLimit-Policy": '"default";q=60;w=3600', "RateLimit": r'"default";r=59;t=3[56]\d\d'}),
    ],
)
def test_headers_on_every_response_tell_what_remains(
    simulator: SimulatorProcess, form: str, expected: dict[str, str]
) -> None:
    simulator.configure(rate=60, rate_window_s=WINDOW_S, limiter="sliding-window", rate_headers=form)

    for stream in (False, True):
        simulator.reset()
        headers = call(simulator, stream=stream).headers
        assert {name for name, text in expected.items() if re.fullmatch(text, headers[name])} == set(expected)


def test_headers_can_be_on_rejections_only(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=1, rate_window_s=WINDOW_S, rate_headers="openai", rate_headers_on="429")
    simulator.configure(retry_after_form="missing")
    good, rejected = call(simulator), call(simulator)

    assert "x-ratelimit-remaining-requests" not in good.headers
    assert rejected.headers["x-ratelimit-remaining-requests"] == "0"
    assert "Retry-After" not in rejected.headers


def test_tokens_have_headers_of_their_own_and_a_call_that_is_too_large_has_no_wait(
    simulator: SimulatorProcess,
) -> None:
    simulator.configure(token_rate=1000, token_window_s=WINDOW_S, rate_headers="openai")
    good, too_large, rejected = (call(simulator, max_tokens=tokens) for tokens in (499, 2000, 600))

    assert good.headers["x-ratelimit-remaining-tokens"] == "500"
    assert (too_large.status_code, "Retry-After" in too_large.headers) == (429, False)
    assert (rejected.status_code, "Retry-After" in rejected.headers) == (429, True)


def test_a_limit_of_one_model_leaves_the_others_alone(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=1, limited_models=["mira-pro"], rate_headers="openai")

    responses = [call(simulator, model) for model in ("mira-pro", "mira-pro", "mira", "mira")]

    assert [response.status_code for response in responses] == [200, 429, 200, 200]
    assert "x-ratelimit-limit-requests" not in responses[2].headers


def test_a_setting_changes_when_its_time_has_come() -> None:
    with SimulatorProcess.start("--concurrency", "3", "--change", "0.01:concurrency=2") as simulator:
        wait_until("the change", lambda: simulator.config()["concurrency"] == 2)
        simulator.configure(changes=["0.01:rate=5/6", "3600:rate=9/6"])
        wait_until("the next change", lambda: simulator.config()["rate"] == 5)


def test_options_describe_a_limiter() -> None:
    options = (
        "--limiter token-bucket --rate 10/1s --burst 10 --retry-after-form ms --rate-headers openai "
        "--rate-headers-on 429 --tokens 30000/60 --token-limiter fixed-window --limit-model mira-pro "
        "--other-calls 3/s --other-calls-at even --month-tokens 7"
    )
    with SimulatorProcess.start(*options.split()) as process:
        config = process.config()
    expected = {
        "limiter": "token-bucket",
        "rate": 10,
        "rate_window_s": 1.0,
        "burst": 10,
        "retry_after_form": "ms",
        "rate_headers": "openai",
        "rate_headers_on": "429",
        "token_rate": 30_000,
        "token_limiter": "fixed-window",
        "limited_models": ["mira-pro"],
        "other_calls": 3.0,
        "other_calls_at": "even",
        "month_tokens": 7,
    }
    assert {name: config[name] for name in expected} == expected
