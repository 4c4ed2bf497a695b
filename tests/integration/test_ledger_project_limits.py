"""Limits of a project in the ledger: what is open and what it costs, counted by the operation that changes it."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.batch import Batch, BatchOptions, BatchOrigin, BatchStatus
from mira_queue.contract.commands import Retry
from mira_queue.contract.outcome import Completion
from mira_queue.contract.project_limits import NANO, JobPrice, LimitReached, ProjectLimits, ProjectUsage
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import NewJob
from tests.support.ledger_steps import ACCOUNT, FAILURE, claimed, new_job

PROJECT = "app"
PRICE = JobPrice(2.5, 10, 1000)
ANSWER = Completion("Hi", "stop", {"prompt_tokens": 100, "completion_tokens": 3}, {"id": "chatcmpl-1"})
COST = 250 + 3 * 10


def job(limits: ProjectLimits | None = None, price: JobPrice | None = PRICE, key: str = "") -> NewJob:
    return replace(new_job(key), project=PROJECT, limits=limits or ProjectLimits(), price=price)


def batch(status: BatchStatus = BatchStatus.VALIDATING, *, max_cost: str = "", **counts: Any) -> Batch:
    found = Batch("batch_1", status, "a", "here:/a", 1, BatchOptions(max_cost=max_cost), origin=BatchOrigin(PROJECT))
    return replace(found, **counts)


def test_a_job_counts_from_its_acceptance_to_its_end_and_its_cost_stays(ledger: Ledger) -> None:
    job_id = ledger.accept(ACCOUNT, [job()])[0].id
    assert ledger.usage_of(PROJECT) == ProjectUsage(jobs=1, reserved=1000)

    ledger.finish(claimed(ledger, job_id), ANSWER)

    assert ledger.usage_of(PROJECT) == ProjectUsage(cost=COST)


def test_a_job_that_is_retried_counts_again_and_no_token_of_it_twice(ledger: Ledger) -> None:
    job_id = ledger.accept(ACCOUNT, [job()])[0].id
    lost = {"prompt_tokens": 10, "completion_tokens": 1}
    ledger.finish(claimed(ledger, job_id), replace(FAILURE, lost_usage=lost, unanswered_calls=2))
    failed = ProjectUsage(cost=25 + 10 + 2 * 1000)
    assert ledger.usage_of(PROJECT) == failed

    assert ledger.retry(job_id)
    assert ledger.usage_of(PROJECT) == replace(failed, jobs=1, reserved=1000)
    lease = claimed(ledger, job_id)
    ledger.finish(lease, replace(ANSWER, lost_usage=lost, unanswered_calls=2))

    assert ledger.usage_of(PROJECT) == replace(failed, cost=failed.cost + COST)


def test_a_cancelled_job_frees_its_place_once(ledger: Ledger) -> None:
    job_id = ledger.accept(ACCOUNT, [job()])[0].id

    assert ledger.cancel(job_id)
    assert ledger.cancel(job_id)

    assert ledger.usage_of(PROJECT) == ProjectUsage()


def test_of_concurrent_requests_only_those_within_the_limit_are_accepted(ledger: Ledger) -> None:
    limits = ProjectLimits(max_open=5)

    def accept(_: int) -> str:
        try:
            ledger.accept(ACCOUNT, [job(limits)])
        except LimitReached as error:
            return error.limit
        return "accepted"

    with ThreadPoolExecutor(16) as pool:
        accepted = list(pool.map(accept, range(40)))

    assert Counter(accepted) == {"accepted": 5, "open": 35}
    assert ledger.usage_of(PROJECT).jobs == 5


def test_a_job_that_is_not_allowed_leaves_nothing_behind(ledger: Ledger, redis_client: redis.Redis) -> None:
    limits = ProjectLimits(max_cost=1000)
    first = job(limits, key="first")
    ledger.accept(ACCOUNT, [first])
    refused = job(limits, key="second")

    with pytest.raises(LimitReached) as caught:
        ledger.accept(ACCOUNT, [refused])

    assert caught.value.limit == "cost"
    left = [names.job_key(refused.id), names.request_key(refused.id), names.idempotency_key(ACCOUNT, "second")]
    assert redis_client.exists(*left) == 0
    # A repeated request, and one with the same key, find their job.
    assert ledger.accept(ACCOUNT, [first])[0].id == first.id
    assert ledger.accept(ACCOUNT, [job(limits, key="first")])[0].id == first.id
    assert ledger.usage_of(PROJECT).jobs == 1


def test_a_failed_job_is_not_retried_beyond_a_limit(ledger: Ledger) -> None:
    job_id = ledger.accept(ACCOUNT, [job()])[0].id
    ledger.finish(claimed(ledger, job_id), FAILURE)
    ledger.accept(ACCOUNT, [job()])

    with pytest.raises(LimitReached):
        ledger.retry(job_id, ProjectLimits(max_open=1))
    assert ledger.status(job_id).state == "failed"
    assert ledger.retry(job_id, ProjectLimits(max_open=2))


def test_the_open_lines_of_a_batch_count_together_with_jobs(ledger: Ledger) -> None:
    limits = ProjectLimits(max_open=10)
    assert ledger.add_batch(batch(), limits, lines=9)
    assert not ledger.add_batch(batch(), limits, lines=9)
    ledger.accept(ACCOUNT, [job(limits)])
    with pytest.raises(LimitReached):
        ledger.accept(ACCOUNT, [job(limits)])

    # While its lines are checked, its reservation stays; then it has the lines that are left.
    ledger.write_batch(batch())
    assert ledger.usage_of(PROJECT).open == 10
    ledger.write_batch(batch(BatchStatus.IN_PROGRESS, total=9, answered=3))
    assert ledger.usage_of(PROJECT).lines == 6
    ledger.write_batch(batch(BatchStatus.COMPLETED, total=9, answered=9))
    assert ledger.usage_of(PROJECT).lines == 0


def test_a_batch_reserves_its_maximum_cost_and_counts_its_cost_on_the_day_it_arises(ledger: Ledger) -> None:
    limits = ProjectLimits(max_cost=10 * NANO)
    ledger.add_batch(batch(max_cost="6"), limits)
    with pytest.raises(LimitReached):
        ledger.add_batch(replace(batch(max_cost="5"), id="batch_2"), limits)
    with pytest.raises(LimitReached):
        ledger.reserve(batch(max_cost="6"), limits, cost=5 * NANO, needed=5 * NANO)

    ledger.write_batch(batch(BatchStatus.IN_PROGRESS, max_cost="6", total=9, cost="2.5"))
    assert ledger.usage_of(PROJECT) == ProjectUsage(0, 9, int(2.5 * NANO), int(3.5 * NANO))
    # Read again after a crash, it may have counted less for a moment.
    ledger.write_batch(batch(BatchStatus.IN_PROGRESS, max_cost="6", total=9, cost="1"))
    ledger.write_batch(batch(BatchStatus.COMPLETED, max_cost="6", total=9, cost="3"))

    assert ledger.usage_of(PROJECT) == ProjectUsage(cost=3 * NANO)


def test_what_a_command_has_reserved_stays_until_its_supervisor_has_seen_it(ledger: Ledger) -> None:
    ledger.add_batch(batch(max_cost="6"))
    done = batch(BatchStatus.COMPLETED, max_cost="6", total=9, answered=5, failed=4, cost="2")
    ledger.write_batch(done)

    ledger.reserve(done, ProjectLimits(max_open=100), lines=4, cost=4 * NANO)
    ledger.send_command(done.id, Retry(()))
    ledger.write_batch(replace(done, status=BatchStatus.IN_PROGRESS))
    assert ledger.usage_of(PROJECT) == ProjectUsage(0, 4, 2 * NANO, 4 * NANO)

    ledger.ack_command(done.id, Retry(()))
    ledger.write_batch(replace(done, status=BatchStatus.IN_PROGRESS, failed=0, answered=7))
    assert ledger.usage_of(PROJECT).lines == 2
    ledger.forget_batch(done.id, PROJECT)
    assert ledger.usage_of(PROJECT) == ProjectUsage(cost=2 * NANO)


def test_the_next_day_begins_without_a_cost(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = ledger.accept(ACCOUNT, [job()])[0].id
    ledger.finish(claimed(ledger, job_id), ANSWER)
    redis_client.hincrby(names.usage_key(PROJECT), "day", -1)

    assert ledger.usage_of(PROJECT) == ProjectUsage()
    ledger.accept(ACCOUNT, [job(ProjectLimits(max_cost=1))])
    assert ledger.usage_of(PROJECT) == ProjectUsage(jobs=1, reserved=1000)
