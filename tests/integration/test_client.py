"""The Python client as a web view uses it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
import redis

from mira_queue import (
    Failure,
    IdempotencyConflict,
    InvalidRequest,
    Job,
    JobCancelled,
    JobError,
    JobNotFound,
    JobState,
    MiraQueue,
    MiraQueueError,
    QueueUnavailable,
    ResultTimeout,
)
from mira_queue.contract.settings import Settings
from tests.support.queue_process import API_KEY, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60

pytestmark = pytest.mark.usefixtures("worker")


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_what_the_server_gets_is_what_the_caller_gave(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    fields: dict[str, Any] = {
        "temperature": 0.5,
        "top_p": 0.25,
        "stop": ["end"],
        "response_format": {"type": "text"},
    }

    queue.enqueue(ask("Grüße 👋"), model="mira-max", **fields).result(TIMEOUT_S)

    body = {"messages": ask("Grüße 👋"), "model": "mira-max", **fields}
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert list(simulator.requests()["by_body"]) == [digest]


def test_an_option_of_a_task_queue_is_rejected_and_no_job_accepted(queue: MiraQueue, redis_client: redis.Redis) -> None:
    with pytest.raises(InvalidRequest, match="not a field") as rejected:
        queue.enqueue(ask("Hello"), countdown=60)

    assert rejected.value.field == "countdown"
    assert list(redis_client.scan_iter("mira:job:*")) == []


def test_unknown_fields_and_those_of_extra_body_reach_the_server(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    unknown: dict[str, Any] = {"top_k": 5, "reasoning": {"effort": "low"}}
    extra = {"priority": 3, "temprature": 1}

    queue.enqueue(ask("Hello"), model="mira", **unknown, extra_body=extra).result(TIMEOUT_S)

    body = {"messages": ask("Hello"), "model": "mira", **unknown, **extra}
    digest = hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert list(simulator.requests()["by_body"]) == [digest]


def test_a_streamed_answer_comes_back_whole(queue: MiraQueue) -> None:
    completion = queue.enqueue(ask("one two three"), stream=True).result(TIMEOUT_S)

    assert completion.text == "Simulated answer to: one two three"
    assert completion.finish_reason == "stop"
    assert completion.body["object"] == "chat.completion"


def test_many_requests_come_back_in_their_order(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    jobs = queue.enqueue_many({"messages": ask(f"number {number}")} for number in range(50))

    assert [job.result(TIMEOUT_S).text for job in jobs] == [f"Simulated answer to: number {n}" for n in range(50)]
    assert simulator.stats()["calls"] == 50
    assert [outcome.attempts for outcome in queue.outcomes([job.id for job in jobs])] == [1] * 50


def test_a_wrong_request_among_many_names_its_place_and_nothing_is_sent(
    queue: MiraQueue, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    requests: list[dict[str, Any]] = [{"messages": ask("fine")}, {"messages": "none"}]

    with pytest.raises(InvalidRequest) as refused:
        queue.enqueue_many(requests)

    assert refused.value.field == "[1].messages"
    # A worker of an earlier test may report that it is alive.
    assert list(redis_client.scan_iter("mira:job:*")) == []
    assert simulator.stats()["calls"] == 0


def test_a_key_for_each_request_or_none(queue: MiraQueue) -> None:
    with pytest.raises(InvalidRequest, match="keys: expected one for each of the 1 requests, got 2"):
        queue.enqueue_many([{"messages": ask("x")}], keys=["a", "b"])


def test_a_key_that_is_no_string_and_a_wrong_field_are_named_as_the_caller_knows_them(queue: MiraQueue) -> None:
    number: Any = 5
    for call, said in (
        (lambda: queue.enqueue(ask("x"), key=number), "key: expected a string, got int"),
        (lambda: queue.enqueue_many([{"messages": ask("x")}], keys=[number]), "keys[0]: expected a string, got int"),
        (lambda: queue.enqueue([{"role": "user", "content": number}]), "messages[0].content: expected text"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            call()
        assert str(refused.value).startswith(said)


def test_a_view_that_is_called_twice_with_one_key_makes_one_call(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    first = queue.enqueue(ask("order 7"), key="order 7")
    first.result(TIMEOUT_S)
    second = queue.enqueue(ask("order 7"), key="order 7")

    assert second.id == first.id
    assert second.result(TIMEOUT_S) == first.result(0)
    assert simulator.stats()["calls"] == 1
    with pytest.raises(IdempotencyConflict, match="use another key"):
        queue.enqueue(ask("something else"), key="order 7")


def test_a_job_that_has_not_ended_is_waited_for_or_not(queue: MiraQueue) -> None:
    job = queue.enqueue(ask("[[sim:slow=1]] Hello"))

    for timeout in (0, 0.05):
        with pytest.raises(ResultTimeout, match="continues"):
            job.result(timeout)
    assert job.result().text.endswith("Hello")
    assert job.status().state is JobState.SUCCEEDED
    assert job.status().finished_ms is not None


def test_a_result_that_is_not_there_in_time_is_an_error_of_the_queue_and_not_of_the_job(queue: MiraQueue) -> None:
    job = queue.enqueue(ask("[[sim:slow=0.5]] Hello"))

    with pytest.raises(ResultTimeout) as late:
        job.result(timeout=0)

    assert isinstance(late.value, MiraQueueError)
    assert isinstance(late.value, TimeoutError)
    assert not isinstance(late.value, JobError)
    job.result(TIMEOUT_S)


def test_many_threads_wait_for_one_job(queue: MiraQueue) -> None:
    job = queue.enqueue(ask("[[sim:slow=0.5]] Hello"))

    with ThreadPoolExecutor(8) as pool:
        texts = set(pool.map(lambda _: job.result(TIMEOUT_S).text, range(8)))

    assert len(texts) == 1


def test_another_process_s_client_finds_the_job_by_its_id(queue: MiraQueue, settings: Settings) -> None:
    job = queue.enqueue(ask("Hello"))

    with MiraQueue(settings) as other:
        assert other.job(job.id).result(TIMEOUT_S) == job.result(TIMEOUT_S)


@pytest.mark.parametrize("ask_for", [Job.status, Job.outcome, Job.result, Job.cancel, Job.retry])
def test_an_unknown_id_is_said_to_be_one(ask_for: Callable[[Job], Any], queue: MiraQueue) -> None:
    with pytest.raises(JobNotFound, match="no job nowhere"):
        ask_for(queue.job("nowhere"))


def test_a_cancelled_job_says_so_and_counts_the_call_that_was_in_flight(
    queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    job = queue.enqueue(ask("[[sim:slow=2]] Hello"))
    wait_until("its call is in flight", lambda: simulator.stats()["in_flight"] == 1)

    assert job.cancel() is True
    assert job.cancel() is True

    with pytest.raises(JobCancelled) as cancelled:
        job.result(TIMEOUT_S)
    assert cancelled.value.unanswered_calls == 1
    wait_until("its answer is dropped", lambda: worker.events("outcome_dropped", job_id=job.id))
    assert job.status().state is JobState.CANCELLED


def test_a_job_that_has_ended_cannot_be_cancelled(queue: MiraQueue) -> None:
    job = queue.enqueue(ask("Hello"))
    completion = job.result(TIMEOUT_S)

    assert job.cancel() is False
    assert job.result(0) == completion


def test_a_failed_job_is_retried_on_one_command_and_only_a_failed_one(
    queue: MiraQueue, simulator: SimulatorProcess
) -> None:
    job = queue.enqueue(ask("[[sim:402x1]] Hello"))
    outcome = job.outcome(TIMEOUT_S)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.retryable) == ("balance_used_up", True)

    assert job.retry() is True

    assert job.result(TIMEOUT_S).attempts == 1
    assert job.retry() is False
    assert simulator.stats()["calls"] == 2


def test_waiting_threads_hear_of_the_end_at_once_not_at_the_next_look(
    queue: MiraQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without an announcement, the next look would come after the test's patience.
    monkeypatch.setattr("mira_queue.ledger.waits.POLL_S", 3.0 * TIMEOUT_S)
    job = queue.enqueue(ask("[[sim:slow=0.5]] Hello"))
    ended = threading.Event()

    def wait_for_result() -> None:
        job.result()
        ended.set()

    waiter = threading.Thread(target=wait_for_result, daemon=True)
    waiter.start()

    assert ended.wait(TIMEOUT_S)
    waiter.join()


def test_where_no_server_is_the_caller_gets_an_error_and_not_silence(closed_port: int) -> None:
    with (
        MiraQueue(Settings(_env_file=None, redis_url=f"redis://127.0.0.1:{closed_port}/0")) as queue,
        pytest.raises(QueueUnavailable, match="MIRA_REDIS_URL"),
    ):
        queue.enqueue(ask("Hello"))


def test_what_a_client_shows_of_itself_is_no_secret(queue: MiraQueue) -> None:
    job = queue.job("some-id")

    assert repr(job) == "Job('some-id')"
    assert API_KEY not in repr(queue)
