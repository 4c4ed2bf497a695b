"""Every row of the API's error table, through simulator, worker and result backend, read by our client and Celery."""

from __future__ import annotations

import subprocess
import sys
import sysconfig

import pytest
from celery import Celery
from celery.result import AsyncResult

from mira_queue import Completion, Failure, Job, JobState, MiraQueue
from mira_queue.contract import errors
from mira_queue.contract.errors import JobError, error_for_status
from tests.integration.error_rows import ROWS, Row
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60

pytestmark = pytest.mark.usefixtures("worker")


@pytest.fixture(scope="module")
def somebody_else(redis_url: str) -> Celery:
    """A Celery application that knows nothing of us but where results are."""
    return Celery("somebody-else", backend=redis_url, set_as_current=False)


def enqueue(queue: MiraQueue, directives: str) -> Job:
    return queue.enqueue([{"role": "user", "content": directives}])


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.directive.partition(" ")[0])
def test_a_row_of_the_error_table_ends_as_it_says(
    row: Row, queue: MiraQueue, simulator: SimulatorProcess, somebody_else: Celery
) -> None:
    job = enqueue(queue, f"[[sim:{row.directive}]]")

    outcome = job.outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.status) == (row.kind.code, row.status)
    assert row.detail in outcome.detail
    assert outcome.attempts == row.calls
    assert outcome.unanswered_calls == row.billed
    assert outcome.retryable is row.kind.retryable
    assert simulator.stats()["calls"] == row.calls
    status = job.status()
    assert (status.state, status.reason, status.attempts) == (JobState.FAILED, row.kind.code, row.calls)

    with pytest.raises(row.kind) as raised_by_us:
        job.result()
    assert type(raised_by_us.value) is row.kind

    result = AsyncResult(job.id, app=somebody_else)
    assert result.state == "FAILURE"
    assert type(result.result) is row.kind
    assert (result.result.status, result.result.detail) == (row.status, outcome.detail)
    assert result.result.attempts == row.calls
    with pytest.raises(row.kind):
        result.get(timeout=TIMEOUT_S)


def test_the_rows_cover_the_whole_error_table() -> None:
    stored = {error_for_status(status) for status in range(300, 600)} - {errors.RateLimited}
    without_status = {errors.ContentBlocked, errors.InvalidResponse, errors.Unreachable}

    assert {row.kind for row in ROWS} == stored | without_status


@pytest.mark.parametrize("kind", ["429", "rate", "quota", "concurrency", "busy"])
def test_a_limit_is_waited_out_and_charged_to_nobody(kind: str, queue: MiraQueue, simulator: SimulatorProcess) -> None:
    job = enqueue(queue, f"[[sim:{kind}x4 retry-after=0.05]]")

    completion = job.result(TIMEOUT_S)

    # One refusal more than a job has attempts.
    assert simulator.stats()["by_status"] == {"429": 4, "200": 1}
    assert (completion.attempts, completion.unanswered_calls) == (1, 0)


def test_a_server_that_recovers_answers_the_job(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    completion = enqueue(queue, "[[sim:503x1]] [[sim:truncatex1]]").result(TIMEOUT_S)

    assert (completion.attempts, completion.unanswered_calls) == (3, 1)
    assert simulator.stats()["calls"] == 3


def test_limits_between_faults_use_up_no_attempt(queue: MiraQueue, simulator: SimulatorProcess) -> None:
    script = "[[sim:503x1]] [[sim:429x2 retry-after=0.05]] [[sim:500x1]] [[sim:429x2 retry-after=0.05]] [[sim:502x1]]"

    outcome = enqueue(queue, script).outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert (outcome.status, outcome.attempts) == (502, 3)
    assert simulator.stats()["calls"] == 7


def test_plain_celery_reads_a_completion_as_a_dict(queue: MiraQueue, somebody_else: Celery) -> None:
    job = enqueue(queue, "Hello")
    completion = job.result(TIMEOUT_S)

    result = AsyncResult(job.id, app=somebody_else)

    assert result.state == "SUCCESS"
    assert result.result == completion.to_dict()
    assert Completion(**result.result) == completion


def test_plain_celery_that_waits_hears_of_the_end(queue: MiraQueue, somebody_else: Celery) -> None:
    job = enqueue(queue, "[[sim:slow=0.3]] Hello")

    assert AsyncResult(job.id, app=somebody_else).get(timeout=TIMEOUT_S)["text"].startswith("Simulated answer")


def test_plain_celery_shows_a_cancelled_job_as_revoked(
    queue: MiraQueue, somebody_else: Celery, simulator: SimulatorProcess
) -> None:
    job = enqueue(queue, "[[sim:429 retry-after=30]]")
    wait_until("the job waits", lambda: job.status().state is JobState.WAITING)
    assert job.cancel()

    result = AsyncResult(job.id, app=somebody_else)
    assert result.state == "REVOKED"
    assert isinstance(result.result, errors.JobCancelled)


READ_WITHOUT_US = """
import sys
sys.path.extend({paths!r})
try:
    import mira_queue
except ImportError:
    from celery import Celery
    from celery.result import AsyncResult
    error = AsyncResult({job_id!r}, app=Celery(backend={url!r})).result
    print(type(error).__name__, error.args[1], error.args[0], sep="|")
"""


def test_where_our_package_is_missing_the_error_keeps_its_name(queue: MiraQueue, redis_url: str) -> None:
    job = enqueue(queue, "[[sim:402]]")
    job.outcome(TIMEOUT_S)
    # Without `site`, what makes this checkout importable is not read, while installed packages are found by path.
    paths = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    code = READ_WITHOUT_US.format(paths=paths, job_id=job.id, url=redis_url)

    read = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=TIMEOUT_S)

    assert read.stdout.strip() == "BalanceUsedUp|402|Insufficient balance", read.stderr


def test_what_the_server_sent_is_kept_beside_the_words(queue: MiraQueue) -> None:
    outcome = enqueue(queue, "[[sim:openai403]]").outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert outcome.body["error"]["code"] == "model_not_allowed"


def test_every_stored_error_says_more_than_its_code(queue: MiraQueue) -> None:
    with pytest.raises(JobError, match=r"content_blocked \(422\): content_blocked \(violence\)"):
        enqueue(queue, "[[sim:moderation]]").result(TIMEOUT_S)
