"""The simulated API over a real socket: every row of the error table, every broken answer, and the limits."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any

import pytest
import requests

from mira_queue.simulator.config import SimulatorConfig
from tests.support.simulator_process import SimulatorProcess

DEFAULTS = SimulatorConfig().model_dump(mode="json")
KEY = "sk-mira-" + "0" * 40


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start() as simulator:
        yield simulator


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.configure(**DEFAULTS)
    running.reset()
    return running


def body(content: str = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "mira", "messages": [{"role": "user", "content": content}]} | fields


def call(simulator: SimulatorProcess, content: str = "hi", key: str | None = KEY, **fields: Any) -> requests.Response:
    return post(simulator, json.dumps(body(content, **fields)).encode(), key)


def post(
    simulator: SimulatorProcess, raw: bytes, key: str | None = KEY, path: str = "/chat/completions"
) -> requests.Response:
    headers = {"Content-Type": "application/json"} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    with requests.Session() as session:
        session.trust_env = False
        return session.post(simulator.url + path, data=raw, headers=headers, timeout=20, allow_redirects=False)


def begin(simulator: SimulatorProcess, content: str) -> socket.socket:
    """Send a call and do not wait for the answer."""
    raw = json.dumps(body(content)).encode()
    connection = socket.create_connection(("127.0.0.1", simulator.port), timeout=20)
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (KEY.encode(), len(raw), raw)
    )
    return connection


def wait_until(simulator: SimulatorProcess, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    deadline = monotonic() + 20
    while not holds(stats := simulator.stats()):
        assert monotonic() < deadline, stats
    return stats


def test_a_call_is_answered_with_a_chat_completion(simulator: SimulatorProcess) -> None:
    answer = call(simulator, "What is a tide?").json()
    assert answer["choices"][0]["message"]["content"] == "Simulated answer to: What is a tide?"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert set(answer) == {"id", "object", "created", "model", "choices", "usage"}


def test_any_prefix_before_the_path_is_served(simulator: SimulatorProcess) -> None:
    url = simulator.url.replace("/v1", "/some/gateway/v1") + "/chat/completions"
    assert requests.post(url, json=body(), headers={"Authorization": f"Bearer {KEY}"}, timeout=20).status_code == 200


def test_a_streamed_answer_is_events_without_usage_that_end_with_done(simulator: SimulatorProcess) -> None:
    response = call(simulator, "What is a tide?", stream=True)
    assert response.headers["Content-Type"] == "text/event-stream"
    *chunks, done = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert done == "[DONE]"
    assert all("usage" not in json.loads(chunk) for chunk in chunks)
    words = [json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(words) == "Simulated answer to: What is a tide?"


Ask = Callable[[SimulatorProcess], requests.Response]
ROWS: dict[str, tuple[Ask, int]] = {
    "400": (lambda s: call(s, model="gpt"), 400),
    "400 null byte": (lambda s: call(s, "a\x00b"), 400),
    "400 nesting": (lambda s: post(s, b'{"model":"mira","x":' + b"[" * 30 + b"]" * 30 + b"}"), 400),
    "401 missing": (lambda s: call(s, key=None), 401),
    "401 wrong": (lambda s: (s.configure(keys=["other"]), call(s))[1], 401),
    "402": (lambda s: (s.configure(balance_calls=0), call(s))[1], 402),
    "403": (lambda s: (s.configure(plans={"free": ["mira"]}, plan="free"), call(s, model="mira-max"))[1], 403),
    "404 url": (lambda s: post(s, b"{}", path="/completions"), 404),
    "404 method": (lambda s: requests.get(s.url + "/chat/completions", timeout=20), 404),
    "410": (lambda s: (s.configure(api_version="retired"), call(s))[1], 410),
    "413": (lambda s: post(s, b" " * (12 * 1024 * 1024 + 1)), 413),
    "422 validation": (lambda s: call(s, temperature=9), 422),
    "422 moderation": (lambda s: (s.configure(moderation_words=["bomb"]), call(s, "a bomb"))[1], 422),
    "429 rate": (lambda s: (s.configure(rate=1), call(s), call(s))[2], 429),
    "429 quota": (lambda s: (s.configure(quota=0), call(s))[1], 429),
    "429 concurrency": (lambda s: (s.configure(concurrency=0), call(s))[1], 429),
    "429 busy": (lambda s: (s.configure(capacity=0), call(s))[1], 429),
}


@pytest.mark.parametrize(("ask", "status"), ROWS.values(), ids=ROWS)
def test_every_cause_of_an_error_gives_its_status_with_a_detail_and_is_counted(
    simulator: SimulatorProcess, ask: Ask, status: int
) -> None:
    response = ask(simulator)
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str)
    assert simulator.stats()["by_status"][str(status)] == 1


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 413, 418, 422, 429, 500, 502, 503, 504, 599])
def test_a_directive_forces_any_status_of_the_table(simulator: SimulatorProcess, status: int) -> None:
    response = call(simulator, f"[[sim:{status}]]")
    assert response.status_code == status
    assert isinstance(response.json()["detail"], str)


def test_an_answer_beyond_the_servers_own_time_limit_is_a_408_without_a_body(simulator: SimulatorProcess) -> None:
    simulator.configure(answer_timeout_s=0.05, latency_s=1)
    response = call(simulator)
    assert (response.status_code, response.content) == (408, b"")
    forced = call(simulator, "[[sim:408]]")
    assert (forced.status_code, forced.content) == (408, b"")


def test_details_of_422_are_json_in_a_string(simulator: SimulatorProcess) -> None:
    assert json.loads(call(simulator, "[[sim:moderation]]").json()["detail"])["error"] == "content_blocked"
    assert json.loads(call(simulator, temperature=9).json()["detail"])["field"] == "temperature"


def test_a_deprecated_version_answers_with_its_headers_and_a_retired_one_with_410(simulator: SimulatorProcess) -> None:
    simulator.configure(api_version="deprecated")
    response = call(simulator)
    assert response.status_code == 200
    assert {"Deprecation", "Sunset"} <= set(response.headers)
    assert {"Deprecation", "Sunset"} <= set(call(simulator, "[[sim:410]]").headers)


def test_the_bodies_of_other_servers_and_proxies_come_as_asked(simulator: SimulatorProcess) -> None:
    assert call(simulator, "[[sim:html502]]").headers["Content-Type"].startswith("text/html")
    assert call(simulator, "[[sim:text500]]").text == "Internal server error"
    assert call(simulator, "[[sim:empty503]]").content == b""
    assert set(call(simulator, "[[sim:openai400]]").json()["error"]) == {"message", "type", "code"}
    assert call(simulator, "[[sim:html200]]").text.startswith("<html>")
    assert call(simulator, "[[sim:empty200]]").content == b""
    assert call(simulator, "[[sim:emptyobject]]").json() == {}
    with pytest.raises(ValueError, match="Expecting value"):
        call(simulator, "[[sim:notjson]]").json()
    assert simulator.stats()["answered"] == 0


def test_a_redirect_names_the_host_it_is_told(simulator: SimulatorProcess) -> None:
    response = call(simulator, "[[sim:redirect to=127.0.0.1:4242]]")
    assert (response.status_code, response.headers["Location"]) == (307, "http://127.0.0.1:4242/v1/chat/completions")


def test_reset_is_a_reset_connection_and_close_a_closed_one(simulator: SimulatorProcess) -> None:
    with begin(simulator, "[[sim:reset]]") as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    with begin(simulator, "[[sim:close]]") as connection:
        assert connection.recv(1) == b""
    assert simulator.stats()["by_status"] == {"reset": 1, "close": 1}
    assert simulator.stats()["client_gone"] == 0


def statuses(connection: socket.socket) -> list[bytes]:
    """Status lines up to that of the final response."""
    found: list[bytes] = []
    with connection.makefile("rb") as reader:
        while not found or found[-1].startswith(b"HTTP/1.1 1"):
            if (line := reader.readline()).startswith(b"HTTP/1.1 "):
                found.append(line.strip())
    return found


def test_early_hints_are_interim_responses_before_the_answer(simulator: SimulatorProcess) -> None:
    with begin(simulator, "[[sim:earlyhints late=0]]") as connection:
        found = statuses(connection)
    assert found == [
        b"HTTP/1.1 100 Continue", b"HTTP/1.1 102 Processing", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK",
    ]  # fmt: skip
    wait_until(simulator, lambda stats: stats["answered"] == 1 and stats["by_fault"] == {"earlyhints": 1})


def test_the_answer_after_early_hints_is_as_late_as_asked(simulator: SimulatorProcess) -> None:
    began_s = monotonic()
    with begin(simulator, "[[sim:earlyhints late=0.3]]") as connection:
        statuses(connection)
    assert monotonic() - began_s >= 0.3


@pytest.mark.parametrize("stream", [False, True])
def test_a_truncated_answer_ends_in_the_middle(simulator: SimulatorProcess, stream: bool) -> None:
    with pytest.raises((requests.exceptions.ChunkedEncodingError, requests.ConnectionError)):
        call(simulator, "[[sim:truncate]]", stream=stream)
    assert simulator.stats()["by_fault"] == {"truncate": 1}


def test_a_huge_answer_is_as_long_as_asked_and_names_no_length(simulator: SimulatorProcess) -> None:
    response = call(simulator, "[[sim:huge bytes=3000000]]")
    assert len(response.content) > 3_000_000
    assert "Content-Length" not in response.headers


def test_a_dripping_answer_never_ends_until_the_client_does(simulator: SimulatorProcess) -> None:
    simulator.configure(drip_interval_s=0.001)
    with begin(simulator, "[[sim:drip]]") as connection:
        received = b""
        while received.count(b"\r\n ") < 20:
            received += connection.recv(4096)
    wait_until(simulator, lambda stats: stats["client_gone"] == 1 and stats["in_flight"] == 0)


def test_a_hanging_call_is_in_flight_until_its_client_goes_away(simulator: SimulatorProcess) -> None:
    with begin(simulator, "[[sim:hang]]"):
        wait_until(simulator, lambda stats: stats["in_flight"] == 1)
    stats = wait_until(simulator, lambda stats: stats["client_gone"] == 1)
    assert (stats["in_flight"], stats["max_in_flight"], stats["by_status"]) == (0, 1, {"gone": 1})


def test_a_script_of_directives_is_gone_through_call_by_call_and_for_this_request_only(
    simulator: SimulatorProcess,
) -> None:
    script = "[[sim:503x2]] [[sim:429x1 retry-after=0.2]]"
    assert [call(simulator, script).status_code for _ in range(5)] == [503, 503, 429, 200, 200]
    assert call(simulator, script, temperature=1).status_code == 503


def test_a_call_that_the_limits_refuse_uses_up_no_step_of_its_script(simulator: SimulatorProcess) -> None:
    simulator.configure(concurrency=0)
    assert call(simulator, "[[sim:503x1]]").status_code == 429
    simulator.configure(concurrency=None)
    assert [call(simulator, "[[sim:503x1]]").status_code for _ in range(2)] == [503, 200]


def test_a_body_too_large_that_does_not_say_its_length_is_a_413(simulator: SimulatorProcess) -> None:
    slices = (b" " * 1024 * 1024 for _ in range(13))
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    response = requests.post(simulator.url + "/chat/completions", data=slices, headers=headers, timeout=20)
    assert response.status_code == 413


def test_a_slow_answer_takes_its_time(simulator: SimulatorProcess) -> None:
    start = monotonic()
    assert call(simulator, "[[sim:slow=0.2]]").status_code == 200
    assert monotonic() - start >= 0.2


def test_a_directive_with_a_mistake_is_a_400_that_says_so(simulator: SimulatorProcess) -> None:
    response = call(simulator, "[[sim:nonsense]]")
    assert response.status_code == 400
    assert "nonsense" in response.json()["detail"]


def test_faults_by_chance_come_as_often_as_configured_and_repeat_with_the_seed(simulator: SimulatorProcess) -> None:
    simulator.configure(faults={"503": 0.3}, seed=5)
    first = [call(simulator, str(number)).status_code for number in range(60)]
    simulator.reset()
    assert [call(simulator, str(number)).status_code for number in range(60)] == first
    assert 5 < first.count(503) < 35


def test_the_four_kinds_of_429_send_the_retry_after_that_was_observed(simulator: SimulatorProcess) -> None:
    assert call(simulator, "[[sim:rate]]").headers["Retry-After"] == "60"
    assert call(simulator, "[[sim:concurrency]]").headers["Retry-After"] == "5"
    assert call(simulator, "[[sim:busy]]").headers["Retry-After"] == "10"
    assert call(simulator, "[[sim:quota]]").headers["Retry-After"] == "3600"
    assert simulator.stats()["by_refusal"] == {"rate": 1, "concurrency": 1, "busy": 1, "quota": 1}


def test_retry_after_comes_in_every_form(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=1, rate_window_s=6, rate_retry_after_s=2.5)
    call(simulator)
    seen = {}
    for form in ("auto", "integer", "fraction", "date", "missing", "absurd", "negative"):
        simulator.configure(retry_after_form=form)
        seen[form] = call(simulator).headers.get("Retry-After")
    assert parsedate_to_datetime(seen.pop("date") or "") is not None
    assert seen == {
        "auto": "2.500",
        "integer": "3",
        "fraction": "2.500",
        "missing": None,
        "absurd": "99999999999",
        "negative": "-3",
    }


def test_limits_are_for_each_account_and_shared_by_its_connections(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=2)
    assert [call(simulator).status_code for _ in range(3)] == [200, 200, 429]
    assert call(simulator, key="another").status_code == 200


def test_calls_beyond_the_concurrency_are_refused_while_others_are_in_flight(simulator: SimulatorProcess) -> None:
    simulator.configure(concurrency=2)
    with begin(simulator, "[[sim:hang]]"), begin(simulator, "[[sim:hang]] too"):
        wait_until(simulator, lambda stats: stats["in_flight"] == 2)
        response = call(simulator)
    assert (response.status_code, response.headers["Retry-After"]) == (429, "5")
    wait_until(simulator, lambda stats: stats["in_flight"] == 0)
    assert call(simulator).status_code == 200
    (account,) = simulator.stats()["accounts"].values()
    assert account["max_in_flight"] == 2


def test_many_clients_at_once_are_never_let_in_beyond_the_rate(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=20, concurrency=5, rate_window_s=60)
    with ThreadPoolExecutor(10) as pool:
        statuses = [response.status_code for response in pool.map(lambda n: call(simulator, str(n)), range(100))]
    stats = simulator.stats()
    (account,) = stats["accounts"].values()
    assert statuses.count(200) == stats["answered"] <= 20
    assert statuses.count(429) == sum(stats["by_refusal"].values())
    assert account["max_in_flight"] <= 5
    assert account["in_window"] == 100


def test_a_busy_server_lets_a_call_wait_in_its_queue_and_refuses_the_next(simulator: SimulatorProcess) -> None:
    simulator.configure(capacity=1, queue_size=1)
    with ThreadPoolExecutor(1) as pool:
        with begin(simulator, "[[sim:hang]]"):
            wait_until(simulator, lambda stats: stats["in_flight"] == 1)
            waiting = pool.submit(call, simulator, "waits")
            wait_until(simulator, lambda stats: stats["in_flight"] == 2)
            refused = call(simulator, "no place")
        assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
        assert waiting.result().status_code == 200


def test_a_call_that_waits_too_long_in_the_queue_is_refused_as_busy(simulator: SimulatorProcess) -> None:
    simulator.configure(capacity=0, queue_size=1, queue_wait_s=0.01)
    assert call(simulator).headers["Retry-After"] == "10"


def test_a_balance_is_used_up_by_answers_only_and_topped_up_live(simulator: SimulatorProcess) -> None:
    simulator.configure(balance_calls=1)
    assert call(simulator, "[[sim:503]]").status_code == 503
    assert [call(simulator).status_code for _ in range(3)] == [200, 402, 402]
    simulator.configure(balance_calls=2)
    assert call(simulator).status_code == 200
