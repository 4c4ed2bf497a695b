"""The rows of the error table in which nothing comes back: refused, silent, dripping; and a worker without a key."""

from __future__ import annotations

import socket

import pytest
from celery import Celery
from celery.result import AsyncResult

from mira_queue import Failure, Job, MiraQueue
from mira_queue.contract import errors
from mira_queue.contract.errors import JobError
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess

TIMEOUT_S = 60


def read_both_ways(job: Job, redis_url: str) -> tuple[Failure, JobError]:
    """With our client, and with plain Celery."""
    outcome = job.outcome(TIMEOUT_S)
    assert isinstance(outcome, Failure)
    result = AsyncResult(job.id, app=Celery("somebody-else", backend=redis_url, set_as_current=False))
    assert result.state == "FAILURE"
    return outcome, result.result


@pytest.mark.parametrize(
    ("kind", "fault", "detail"),
    [
        ("hang", errors.Unreachable, "no response in time (MIRA_REQUEST_TIMEOUT)"),
        ("drip", errors.InvalidResponse, "MIRA_REQUEST_TIMEOUT"),
    ],
)
def test_an_answer_that_does_not_come_in_time_is_a_fault_of_the_server(
    kind: str,
    fault: type[JobError],
    detail: str,
    queue: MiraQueue,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    redis_url: str,
) -> None:
    start_worker(request_timeout=0.5, max_attempts=2)

    outcome, error = read_both_ways(queue.enqueue([{"role": "user", "content": f"[[sim:{kind}]]"}]), redis_url)

    assert (outcome.code, outcome.status, outcome.retryable) == (fault.code, None, True)
    assert detail in outcome.detail
    assert (outcome.attempts, outcome.unanswered_calls) == (2, 2)
    assert (type(error), error.detail) == (fault, outcome.detail)
    assert simulator.stats()["calls"] == 2


def test_a_refused_connection_is_a_fault_that_cannot_have_been_billed(
    queue: MiraQueue, start_worker: StartWorker, redis_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    start_worker(api_base=f"http://127.0.0.1:{port}/v1")

    outcome, error = read_both_ways(queue.enqueue([{"role": "user", "content": "Hello"}]), redis_url)

    assert (outcome.code, outcome.status, outcome.retryable) == ("unreachable", None, True)
    assert "no connection" in outcome.detail
    assert (outcome.attempts, outcome.unanswered_calls) == (3, 0)
    assert type(error) is errors.Unreachable


def test_a_worker_without_a_key_exits_and_the_job_waits(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    job = queue.enqueue([{"role": "user", "content": "Hello"}])
    worker = start_worker(wait=False, api_key=None)

    assert worker.wait() == 1
    assert "MIRA_API_KEY" in worker.log()
    assert "Traceback" not in worker.log()
    assert job.status().state is JobState.QUEUED
    assert simulator.stats()["calls"] == 0
    job.cancel()
