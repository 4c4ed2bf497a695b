"""What follows from unusual responses, with a real worker: nothing is lost, and the user sees what the server said."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import orjson
import pytest
from mira_producer.engine.wait_reason import message_text, reason_of

from mira_queue import Completion, Failure, MiraQueue
from mira_queue.contract.call_history import CallHistory
from tests.conftest import OpenQueue, StartWorker
from tests.support.ledger_steps import accepted, claimed
from tests.support.raw_server import COMPLETION, RawServer, Request, response
from tests.support.response_cases import DONE, LIMIT_TEXT, USAGE, answer, error, part
from tests.support.waiting import wait_until

TIMEOUT_S = 60
OK = response(200, COMPLETION, "Content-Type: application/json")
STREAM = part("Hel") + part("lo", "stop", usage=USAGE) + DONE

Respond = Callable[[Request, socket.socket], None]


def in_turn(*responses: bytes, then: bytes = OK) -> Respond:
    """Send these responses, one per request, and `then` to all later requests."""

    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(responses[request.number] if request.number < len(responses) else then)

    return respond


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_after_a_408_the_job_is_streamed_and_its_outcome_is_as_without_streaming(
    open_queue: OpenQueue, start_worker: StartWorker
) -> None:
    with RawServer(in_turn(response(408), response(200, STREAM, "Content-Type: text/event-stream"))) as server:
        queue = open_queue(api_base=server.url)
        start_worker(api_base=server.url)
        completion = queue.enqueue(user("a long one"), top_p=0.5).result(TIMEOUT_S)

    bodies = [orjson.loads(request.body) for request in server.requests]
    assert [body.get("stream") for body in bodies] == [None, True]
    assert {**bodies[0], "stream": True} == bodies[1]
    assert (completion.text, completion.finish_reason, completion.usage) == ("Hello", "stop", USAGE)
    assert completion.body["object"] == "chat.completion"
    # The server may have billed the call that it did not finish.
    assert (completion.attempts, completion.unanswered_calls) == (2, 1)


def test_a_408_of_a_stream_is_bounded_as_any_other_fault(open_queue: OpenQueue, start_worker: StartWorker) -> None:
    with RawServer(in_turn(then=response(408))) as server:
        queue = open_queue(api_base=server.url)
        start_worker(api_base=server.url, max_attempts=3)
        outcome = queue.enqueue(user("never ends")).outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.attempts, len(server.requests)) == ("server_timeout", 3, 3)


def test_tokens_of_unusable_responses_are_in_the_outcome(open_queue: OpenQueue, start_worker: StartWorker) -> None:
    empty = response(200, orjson.dumps({"choices": [], "usage": USAGE}))
    with RawServer(in_turn(empty, empty, response(200, orjson.dumps(answer("Hi"))))) as server:
        queue = open_queue(api_base=server.url)
        start_worker(api_base=server.url)
        outcome = queue.enqueue(user("Hi")).outcome(TIMEOUT_S)

    assert isinstance(outcome, Completion)
    assert outcome.lost_usage == {"prompt_tokens": 14, "completion_tokens": 6}
    assert outcome.unanswered_calls == 0


def test_a_request_that_is_larger_than_the_limit_fails_alone(open_queue: OpenQueue, start_worker: StartWorker) -> None:
    def respond(request: Request, connection: socket.socket) -> None:
        too_large = orjson.dumps(error(LIMIT_TEXT, type="tokens", code="rate_limit_exceeded"))
        is_large = b"large" in request.body
        connection.sendall(response(429, too_large, "Retry-After: 30", "x-request-id: r-1") if is_large else OK)

    with RawServer(respond) as server:
        queue = open_queue(api_base=server.url)
        worker = start_worker(api_base=server.url)
        large = queue.enqueue(user("large")).outcome(TIMEOUT_S)
        small = queue.enqueue(user("small")).outcome(TIMEOUT_S)

    assert isinstance(large, Failure)
    assert (large.code, large.status, large.request_id) == ("too_large", 429, "r-1")
    assert "342389" in large.detail
    assert isinstance(small, Completion)
    assert worker.events("breaker_opened") == worker.events("limit") == []


def test_a_job_that_is_rejected_while_its_neighbors_succeed_fails(
    open_queue: OpenQueue, start_worker: StartWorker
) -> None:
    def respond(request: Request, connection: socket.socket) -> None:
        rejected = response(429, b'{"detail": "too many tokens"}', "Retry-After: 0.05")
        connection.sendall(rejected if b"never" in request.body else OK)

    with RawServer(respond) as server:
        queue = open_queue(api_base=server.url)
        start_worker(api_base=server.url)
        job = queue.enqueue(user("never"))

        def neighbors_succeed_until_it_fails() -> bool:
            for each in queue.enqueue_many([{"messages": user("fine")}] * 10):
                each.outcome(TIMEOUT_S)
            return job.status().finished_ms is not None

        wait_until("the job to fail", neighbors_succeed_until_it_fails, timeout_s=TIMEOUT_S)
        outcome = job.outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.status, outcome.retryable) == ("never_admitted", 429, True)
    assert "too many tokens" in outcome.detail


def test_the_wait_of_a_503_holds_back_the_whole_account(open_queue: OpenQueue, start_worker: StartWorker) -> None:
    times: list[float] = []

    def respond(request: Request, connection: socket.socket) -> None:
        times.append(time.monotonic())
        loading = response(503, b'{"detail": "the model loads"}', "Retry-After: 1.5")
        connection.sendall(loading if request.number == 0 else OK)

    with RawServer(respond) as server:
        queue = open_queue(api_base=server.url)
        start_worker(api_base=server.url)
        first = queue.enqueue(user("one"))
        wait_until("the first call", lambda: bool(times))
        others = [queue.enqueue(user(f"more {number}")) for number in range(3)]
        outcomes = [job.outcome(TIMEOUT_S) for job in (first, *others)]

    assert all(isinstance(outcome, Completion) for outcome in outcomes)
    assert times[1] - times[0] >= 1.5


@pytest.mark.parametrize("status", [429, 503])
def test_the_message_of_the_server_is_in_the_log_and_in_the_reason_of_the_wait(
    status: int, open_queue: OpenQueue, start_worker: StartWorker
) -> None:
    said = orjson.dumps({"detail": "Come back\x1b[31m later"})
    with RawServer(in_turn(then=response(status, said, "Retry-After: 30"))) as server:
        queue = open_queue(api_base=server.url)
        worker = start_worker(api_base=server.url)
        queue.enqueue(user("Why is the sky blue?"))
        wait_until("the call", lambda: bool(worker.events("attempt")))
        view = queue.ledger.pace_view(queue.accounts.current.id)

    message = f"HTTP {status}: Come back\N{REPLACEMENT CHARACTER}[31m later"
    assert view.message == message
    assert message in message_text(reason_of(view, 1))
    assert {event["message"] for event in worker.events("attempt")} == {message}


def test_the_history_of_a_job_outlives_its_worker(queue: MiraQueue) -> None:
    job_id, history = accepted(queue.ledger), CallHistory(is_streamed=True, prompt_tokens=7)
    lease = claimed(queue.ledger, job_id)

    wait = queue.settings.backoff_base * 0
    assert queue.ledger.defer(lease, wait, wait, attempts=1, unanswered_calls=0, reason="", history=history)
    again = claimed(queue.ledger, job_id)
    assert again.history == history

    assert queue.ledger.release(again)
    assert claimed(queue.ledger, job_id).history == history
