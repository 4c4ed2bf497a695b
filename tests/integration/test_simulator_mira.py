"""`--limits mira` of the simulator over a real socket: what the real backend does and its documentation omits."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from mira_queue.simulator.config import SimulatorConfig, mira_limits
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

MIRA = SimulatorConfig.model_validate(mira_limits()).model_dump(mode="json")
UNLIMITED = MIRA | {"rate": None, "concurrency": None}
KEY = "sk-mira-" + "0" * 40
PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def running() -> Iterator[SimulatorProcess]:
    with SimulatorProcess.start("--limits", "mira") as simulator:
        assert simulator.config() == MIRA
        yield simulator


@pytest.fixture
def simulator(running: SimulatorProcess) -> SimulatorProcess:
    running.configure(**UNLIMITED)
    running.reset()
    return running


def body(content: Any = "hi", **fields: Any) -> bytes:
    return json.dumps({"model": "mira", "messages": [{"role": "user", "content": content}]} | fields).encode()


def post(
    simulator: SimulatorProcess,
    raw: bytes,
    key: str | None = KEY,
    path: str = PATH,
    method: str = "POST",
    content_type: str = "application/json",
) -> requests.Response:
    headers = {"Content-Type": content_type} | ({} if key is None else {"Authorization": f"Bearer {key}"})
    with requests.Session() as session:
        session.trust_env = False
        url = f"http://127.0.0.1:{simulator.port}{path}"
        return session.request(method, url, data=raw, headers=headers, timeout=30)


def call(simulator: SimulatorProcess, content: Any = "hi", **fields: Any) -> requests.Response:
    return post(simulator, body(content, **fields))


def content_of(response: requests.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["message"]["content"])


def hang_and_disconnect(simulator: SimulatorProcess) -> None:
    raw = body("[[sim:hang]]")
    with socket.create_connection(("127.0.0.1", simulator.port), timeout=20) as connection:
        connection.sendall(
            b"POST %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (PATH.encode(), KEY.encode(), len(raw), raw)
        )
        wait_until("the call hangs", lambda: simulator.stats()["in_flight"] == 1)
    wait_until("the client is gone", lambda: simulator.stats()["in_flight"] == 0)


def account(simulator: SimulatorProcess) -> dict[str, Any]:
    return dict(next(iter(simulator.stats()["accounts"].values())))


# --- sizes and checks ---


@pytest.mark.parametrize(
    ("raw", "status", "text"),
    [
        pytest.param(body("x" * (2 * 1024 * 1024)), 413, '"detail"', id="over 2 MiB"),
        pytest.param(body("x" * (12 * 1024 * 1024)), 413, "length limit exceeded", id="over 12 MiB"),
        pytest.param(b'{"model": "mira", "messages": "\x00"}', 400, '"detail"', id="a raw null byte"),
        pytest.param(body("[" * 21), 400, '"detail"', id="brackets in text"),
        pytest.param(body("{[" * 11), 400, '"detail"', id="braces in text"),
    ],
)
def test_size_null_bytes_and_nesting_are_checked_before_the_key(
    simulator: SimulatorProcess, raw: bytes, status: int, text: str
) -> None:
    response = post(simulator, raw, key=None)

    assert response.status_code == status
    assert text in response.text
    assert "x-request-id" not in response.headers


def test_a_413_for_two_mebibytes_is_json_without_a_content_type_and_for_twelve_plain_text(
    simulator: SimulatorProcess,
) -> None:
    two, twelve = (post(simulator, body("x" * size * 1024 * 1024)) for size in (2, 12))

    assert set(two.json()) == {"detail"}
    assert "Content-Type" not in two.headers
    assert twelve.headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(body("closed [] " * 100), id="closed brackets"),
        pytest.param(body("[" * 15), id="a few open brackets"),
        pytest.param(body("я" * 16_000), id="32,000 bytes"),
        pytest.param(body("null \x00 byte"), id="an escaped null byte"),
        pytest.param(body(temperature=99.5), id="any temperature"),
        pytest.param(body(max_tokens=1_000_000), id="max_tokens is capped"),
        pytest.param(json.dumps({"model": "mira", "messages": []}).encode(), id="no messages"),
        pytest.param(
            json.dumps({"model": "mira", "messages": [{"role": "tool", "content": "hi"}]}).encode(), id="any role"
        ),
    ],
)
def test_what_the_backend_answers_is_answered(simulator: SimulatorProcess, raw: bytes) -> None:
    assert content_of(post(simulator, raw)).startswith("Simulated answer")


def test_content_is_limited_in_bytes_and_a_validation_error_quotes_the_messages(simulator: SimulatorProcess) -> None:
    response = call(simulator, "я" * 17_000)

    assert response.status_code == 422
    assert "я" * 17_000 in response.json()["detail"]


def test_a_null_byte_is_stripped_and_system_messages_are_dropped(simulator: SimulatorProcess) -> None:
    messages = [{"role": "user", "content": "a\x00b"}, {"role": "system", "content": "[[sim:503]] " * 9}]
    response = post(simulator, json.dumps({"model": "mira", "messages": messages}).encode())

    assert content_of(response).endswith(": ab")
    assert response.json()["usage"]["prompt_tokens"] == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": None},
        {"stream": None},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        {"messages": [{"role": "user"}]},
        {"model": 3},
    ],
)
def test_a_wrong_field_is_a_422_in_plain_text(simulator: SimulatorProcess, fields: dict[str, Any]) -> None:
    response = call(simulator, **fields)

    assert (response.status_code, response.headers["Content-Type"]) == (422, "text/plain")
    assert next(iter(fields)) in response.text


def test_a_body_that_is_not_json_is_a_400_in_plain_text(simulator: SimulatorProcess) -> None:
    response = post(simulator, b'{"model": ')

    assert (response.status_code, response.headers["Content-Type"]) == (400, "text/plain")


@pytest.mark.parametrize(
    ("path", "method", "content_type", "status", "text"),
    [
        ("/v1/chat/completion", "POST", "application/json", 403, "Forbidden"),
        ("/chat/completions", "POST", "application/json", 403, "Forbidden"),
        ("/api/v1/chat/completions", "POST", "application/json", 404, ""),
        (PATH, "GET", "application/json", 405, ""),
        (PATH, "POST", "text/plain", 415, "application/json"),
    ],
)
def test_wrong_paths_methods_and_content_types(
    simulator: SimulatorProcess, path: str, method: str, content_type: str, status: int, text: str
) -> None:
    response = post(simulator, body(), path=path, method=method, content_type=content_type)

    assert response.status_code == status
    assert text in response.text if text else response.text == ""
    assert "x-request-id" not in response.headers


def test_every_response_of_a_handler_has_an_id_of_its_own(simulator: SimulatorProcess) -> None:
    simulator.configure(rate=6, plans={"max": ["mira"]}, moderation_words=["bad"])
    responses = [
        post(simulator, body(), key=None),
        call(simulator, model="gpt"),
        call(simulator, model="mira-pro"),
        call(simulator, "bad"),
        call(simulator, "[[sim:500]]"),
        call(simulator, "[[sim:busy]]"),
        call(simulator),
        call(simulator, stream=True),
        call(simulator, "[[sim:emptyobject]]"),
        call(simulator),
    ]

    statuses = [response.status_code for response in responses]
    assert statuses == [401, 400, 403, 422, 500, 429, 200, 200, 200, 429]
    assert len({response.headers["x-request-id"] for response in responses}) == len(responses)


# --- faults ---


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("kind", "is_failure"),
    [
        ("modelerror", lambda text: text.startswith("Ошибка: Stream request failed")),
        ("modelbreak", lambda text: text.startswith("Simul") and text.endswith("Ошибка: Stream read error")),
        ("modelempty", lambda text: text == ""),
    ],
)
def test_a_failed_model_is_a_200_that_looks_complete(
    simulator: SimulatorProcess, kind: str, is_failure: Callable[[str], bool], *, stream: bool
) -> None:
    response = call(simulator, f"[[sim:{kind}x1]]", stream=stream)
    chunks = events(response) if stream else [response.json()]

    text = "".join(chunk["choices"][0]["delta" if stream else "message"].get("content", "") for chunk in chunks)
    assert response.status_code == 200
    assert is_failure(text)
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    stats = simulator.stats()
    assert (stats["by_fault"], stats["answered"]) == ({kind: 1}, 0)
    assert content_of(call(simulator, f"[[sim:{kind}x1]]")).startswith("Simulated answer")


@pytest.mark.parametrize("kind", ["500", "500late"])
def test_without_its_database_the_backend_responds_with_500(simulator: SimulatorProcess, kind: str) -> None:
    simulator.outage(60, kind)

    # A late one is too late for this client.
    if kind == "500late":
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"http://127.0.0.1:{simulator.port}{PATH}", data=body(), timeout=1)
    else:
        assert call(simulator).status_code == 500
    assert simulator.stats()["outage"] == kind
    simulator.outage(0.01, "503")
    wait_until("the outage is over", lambda: simulator.stats()["outage"] is None)


def test_a_response_that_takes_too_long_is_an_empty_408_unless_it_streams(simulator: SimulatorProcess) -> None:
    simulator.configure(answer_timeout_s=0.2)
    slow, stream = (call(simulator, "[[sim:slow=0.3]]", stream=stream) for stream in (False, True))

    assert (slow.status_code, slow.content) == (408, b"")
    assert "x-request-id" not in slow.headers
    assert "".join(words(stream)).startswith("Simulated answer")


def test_a_stream_has_comments_and_no_role_and_says_stop_where_the_model_says_length(
    simulator: SimulatorProcess,
) -> None:
    response = call(simulator, "a long question " * 20, stream=True, max_tokens=3)

    assert ": ping" in response.text
    assert "role" not in response.text
    assert response.text.endswith("data: [DONE]\n\n")
    assert events(response)[-1]["choices"][0]["finish_reason"] == "stop"
    whole = call(simulator, "a long question " * 20, max_tokens=3).json()
    assert whole["choices"][0]["finish_reason"] == "stop"


def test_a_busy_server_says_so_with_a_429_or_inside_a_stream_that_does_not_end(simulator: SimulatorProcess) -> None:
    simulator.configure(capacity=0)
    busy, stream = call(simulator), call(simulator, stream=True)

    assert (busy.status_code, busy.headers["Retry-After"]) == (429, "10")
    assert stream.status_code == 200
    assert events(stream)[-1]["error"]["code"] == "queue_full"
    assert "[DONE]" not in stream.text


def test_a_wait_in_the_queue_ends_with_a_408_unless_the_call_streams(simulator: SimulatorProcess) -> None:
    simulator.configure(capacity=0, queue_size=1, answer_timeout_s=0.1, queue_wait_s=0.3)

    assert call(simulator).status_code == 408
    assert events(call(simulator, stream=True))[-1]["error"]["code"] == "queue_full"


def events(response: requests.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.content.decode().split("\n") if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def words(response: requests.Response) -> list[str]:
    return [chunk["choices"][0]["delta"].get("content", "") for chunk in events(response)]


# --- limits ---


def leak_by_moderation(simulator: SimulatorProcess) -> None:
    assert call(simulator, "[[sim:moderation]]").status_code == 422


def leak_by_timeout(simulator: SimulatorProcess) -> None:
    simulator.configure(answer_timeout_s=0.05)
    assert call(simulator, "[[sim:slow=1]]").status_code == 408


def leak_by_busy(simulator: SimulatorProcess) -> None:
    assert call(simulator, "[[sim:busy]]").status_code == 429


@pytest.mark.parametrize("leak", [leak_by_moderation, leak_by_timeout, leak_by_busy, hang_and_disconnect])
def test_three_leaks_reject_every_call_until_no_call_was_admitted_for_a_while(
    simulator: SimulatorProcess, leak: Callable[[SimulatorProcess], None]
) -> None:
    simulator.configure(concurrency=3)
    for _ in range(3):
        leak(simulator)

    rejected = call(simulator)
    assert (rejected.status_code, rejected.headers["Retry-After"]) == (429, "5")
    assert account(simulator)["leaked"] == 3
    # Instead of 300 s.
    simulator.configure(leak_s=0.01)
    wait_until("the slots are free", lambda: call(simulator).status_code == 200)
    assert account(simulator)["leaked"] == 0


def test_a_429_for_concurrency_uses_up_the_quota(simulator: SimulatorProcess) -> None:
    simulator.configure(concurrency=0, quota=3)
    assert [call(simulator).headers["Retry-After"] for _ in range(5)] == ["5"] * 3 + ["3600"] * 2


def test_the_documented_quota_counts_only_admitted_calls(simulator: SimulatorProcess) -> None:
    simulator.configure(backend="documented", concurrency=0, quota=3)
    assert [call(simulator).headers["Retry-After"] for _ in range(5)] == ["5"] * 5


def test_used_up_tokens_of_the_month_come_after_the_balance_and_before_the_rate(simulator: SimulatorProcess) -> None:
    simulator.configure(month_tokens=1, rate=1)
    assert call(simulator).status_code == 200
    rejected = call(simulator)
    simulator.configure(balance_calls=1)

    assert (rejected.status_code, rejected.headers["Retry-After"]) == (429, "86400")
    assert call(simulator).status_code == 402


def test_every_429_has_the_same_message(simulator: SimulatorProcess) -> None:
    limits: list[dict[str, Any]] = [{"rate": 1}, {"quota": 0}, {"concurrency": 0}, {"month_tokens": 0}]
    call(simulator)
    for limit, seconds in zip(limits, (60, 3600, 5, 86_400), strict=True):
        simulator.configure(**UNLIMITED | limit)
        call(simulator)
        response = call(simulator)
        assert response.status_code == 429
        assert response.json() == {"detail": f"Rate limit exceeded, retry after {seconds} seconds"}
