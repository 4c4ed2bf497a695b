"""Outcomes in a result backend that is not the ledger's server: Celery's own file system backend stands for all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.result import AsyncResult
from mira_worker.result_backend import BackendResults

from mira_queue import Failure, JobState, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.errors import ContentBlocked
from mira_queue.contract.outcome import Outcome
from mira_queue.contract.settings import Settings
from mira_queue.runtime.celery_config import build_celery
from tests.conftest import StartWorker
from tests.support.ledger_steps import COMPLETION, FAILURE, PASSED, claimed, new_job
from tests.support.queue_process import QUICK
from tests.support.simulator_process import SimulatorProcess

TIMEOUT_S = 60


@pytest.fixture
def backend_url(tmp_path: Path) -> str:
    folder = tmp_path / "results"
    folder.mkdir()
    return f"file://{folder}"


@pytest.fixture
def settings(redis_url: str, simulator: SimulatorProcess, backend_url: str) -> Settings:
    fields = {**QUICK, "redis_url": redis_url, "api_base": simulator.url, "result_backend": backend_url}
    return Settings(_env_file=None, **fields)


@pytest.fixture
def queue(settings: Settings) -> Iterator[MiraQueue]:
    with MiraQueue(settings) as client:
        yield client


def plain_celery(job_id: str, backend_url: str) -> AsyncResult:
    return AsyncResult(job_id, app=Celery("somebody-else", backend=backend_url, set_as_current=False))


def test_outcomes_are_there_and_not_beside_the_ledger(
    queue: MiraQueue, redis_client: redis.Redis, start_worker: StartWorker, backend_url: str
) -> None:
    start_worker(result_backend=backend_url)
    good = queue.enqueue([{"role": "user", "content": "Hello"}])
    bad = queue.enqueue([{"role": "user", "content": "[[sim:moderation]]"}])

    completion, failure = good.result(TIMEOUT_S), bad.outcome(TIMEOUT_S)

    assert completion.text == "Simulated answer to: Hello"
    assert isinstance(failure, Failure)
    assert (failure.code, failure.status, failure.attempts) == ("content_blocked", 422, 1)
    assert plain_celery(good.id, backend_url).state == "SUCCESS"
    assert plain_celery(good.id, backend_url).result == completion.to_dict()
    blocked = plain_celery(bad.id, backend_url)
    assert blocked.state == "FAILURE"
    assert isinstance(blocked.result, ContentBlocked)
    assert (blocked.result.status, blocked.result.detail) == (422, failure.detail)
    for job in (good, bad):
        assert redis_client.exists(names.result_key(job.id)) == 0
        assert job.status().state.is_final
    assert queue.outcomes([good.id, bad.id]) == [completion, failure]


@pytest.mark.parametrize("outcome", [COMPLETION, FAILURE], ids=["succeeded", "failed"])
def test_an_outcome_that_was_decided_by_a_worker_that_died_is_stored_without_another_call(
    outcome: Outcome,
    account: str,
    queue: MiraQueue,
    settings: Settings,
    redis_url: str,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    backend_url: str,
) -> None:
    results = BackendResults(build_celery(settings, redis_url).backend)
    (accepted,) = queue.ledger.accept(account, [new_job()])
    dead = claimed(queue.ledger, accepted.id, PASSED, account)
    assert queue.ledger.record_outcome(dead, results.pack(outcome))

    start_worker(result_backend=backend_url)

    assert queue.job(accepted.id).outcome(TIMEOUT_S) == outcome
    assert plain_celery(accepted.id, backend_url).ready()
    assert simulator.stats()["calls"] == 0


def test_a_retried_job_is_waited_for_anew(queue: MiraQueue, start_worker: StartWorker, backend_url: str) -> None:
    """The first outcome still stands in the backend, where no script of ours reaches."""
    start_worker(result_backend=backend_url)
    job = queue.enqueue([{"role": "user", "content": "[[sim:402x1]] [[sim:slow=0.3]]"}])
    assert isinstance(job.outcome(TIMEOUT_S), Failure)

    assert job.retry()

    assert job.result(TIMEOUT_S).attempts == 1
    assert plain_celery(job.id, backend_url).state == "SUCCESS"


def test_a_cancelled_job_needs_no_backend(queue: MiraQueue) -> None:
    job = queue.enqueue([{"role": "user", "content": "Hello"}])

    assert job.cancel()

    outcome = job.outcome(0)
    assert isinstance(outcome, Failure)
    assert outcome.code == "cancelled"
    assert job.status().state is JobState.CANCELLED


def test_the_outcome_of_a_cancelled_job_is_found_with_those_of_other_jobs(queue: MiraQueue) -> None:
    job = queue.enqueue([{"role": "user", "content": "Hello"}])
    assert job.cancel()

    (outcome,) = queue.outcomes([job.id])

    assert isinstance(outcome, Failure)
    assert outcome.code == "cancelled"
