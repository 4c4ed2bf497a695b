"""The ledger's verbs for workers, on a real server: leases, epochs, waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import DecidedLease, Lease, NothingToDo
from tests.support.ledger_steps import (
    COMPLETION,
    FAILURE,
    LONG,
    PASSED,
    accepted,
    begin,
    begun,
    claimed,
    defer,
    request,
    running,
    snapshot,
    waiting,
)

# --- claim ---


def test_a_claim_hands_out_the_request_and_what_was_counted(ledger: Ledger) -> None:
    job_id = accepted(ledger, key="order 7", group="a run")

    assert claimed(ledger, job_id) == Lease(job_id, 1, request().body, 0, 0, 0, "order 7", "a run")
    assert ledger.status(job_id).state is JobState.RUNNING


def test_a_job_that_is_run_is_not_handed_out_again(ledger: Ledger) -> None:
    held = running(ledger)

    assert ledger.claim(held.job_id, LONG) == NothingToDo("leased")


def test_of_many_that_claim_at_once_one_gets_the_job(ledger: Ledger) -> None:
    job_ids = [accepted(ledger) for _ in range(20)]
    starting = threading.Barrier(8)

    def claim_all(_: int) -> list[Any]:
        starting.wait()
        return [ledger.claim(job_id, LONG) for job_id in job_ids]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(claim_all, range(8)))

    for of_one_job in zip(*answers, strict=True):
        assert [isinstance(answer, Lease) for answer in of_one_job].count(True) == 1
        assert of_one_job.count(NothingToDo("leased")) == 7


def test_a_job_is_claimed_once_it_is_due(ledger: Ledger) -> None:
    early, due = running(ledger), running(ledger)
    assert defer(ledger, early, LONG)
    assert defer(ledger, due, PASSED)

    answer = ledger.claim(early.job_id, LONG)
    assert isinstance(answer, NothingToDo)
    assert answer.why == "early"
    assert 0 < answer.wait_ms <= LONG.total_seconds() * 1000
    again = claimed(ledger, due.job_id)
    assert (again.epoch, again.attempts, again.unanswered_calls) == (2, 2, 1)


def test_a_waiting_job_says_why_and_until_when(ledger: Ledger) -> None:
    status = ledger.status(waiting(ledger))

    assert (status.state, status.reason) == (JobState.WAITING, "rate_limited (429): later")
    assert status.due_ms is not None
    assert status.due_ms > status.created_ms


# --- epochs ---


@pytest.mark.parametrize(
    "act",
    [
        lambda ledger, old: ledger.extend([old], LONG) == [False],
        lambda ledger, old: begin(ledger, old) == "lost",
        lambda ledger, old: ledger.record_outcome(old, b"[]") is False,
        lambda ledger, old: ledger.finish(old, COMPLETION) is False,
        lambda ledger, old: ledger.finish(old, FAILURE) is False,
        lambda ledger, old: defer(ledger, old) is False,
        lambda ledger, old: ledger.release(old) is False,
    ],
    ids=["extend", "begin", "settle", "succeed", "fail", "defer", "give_back"],
)
@pytest.mark.parametrize("now", ["queued", "running", "waiting", "succeeded", "failed"])
def test_a_worker_whose_lease_was_lost_changes_nothing(
    act: Callable[[Ledger, Lease], bool], now: str, ledger: Ledger, redis_client: redis.Redis
) -> None:
    old = running(ledger, lease=PASSED)
    assert ledger.rescue(old.job_id, 3, LONG) == old.epoch
    if now != "queued":
        new = claimed(ledger, old.job_id)
        assert now != "waiting" or defer(ledger, new)
        assert now != "succeeded" or ledger.finish(new, COMPLETION)
        assert now != "failed" or ledger.finish(new, FAILURE)
    assert ledger.status(old.job_id).state == now
    before = snapshot(redis_client)

    refused = act(ledger, old)

    assert snapshot(redis_client) == before
    # Giving back what is back already is a repeated call, as far as anybody can tell.
    assert refused or (now == "queued" and ledger.release(old))


def test_a_lease_that_is_extended_does_not_pass(ledger: Ledger) -> None:
    held, silent = running(ledger, lease=PASSED), running(ledger, lease=PASSED)

    assert ledger.extend([held, silent], LONG) == [True, True]
    assert ledger.expired_leases(10) == []
    assert ledger.extend([held], PASSED) == [True]
    assert ledger.expired_leases(10) == [held.job_id]


def test_leases_are_extended_in_one_go_and_each_answer_is_its_own(ledger: Ledger) -> None:
    held, given_back = running(ledger), running(ledger)
    ledger.release(given_back)

    assert ledger.extend([held, given_back, Lease("nowhere", 1, b"")], LONG) == [True, False, False]
    assert ledger.extend([], LONG) == []


# --- the ends of a run ---


def test_a_job_given_back_is_queued_unharmed_and_its_call_is_counted(ledger: Ledger) -> None:
    quiet, calling = running(ledger), begun(ledger)

    assert ledger.release(quiet)
    assert ledger.release(calling)

    for held, unanswered in ((quiet, 0), (calling, 1)):
        status = ledger.status(held.job_id)
        assert (status.state, status.attempts, status.crashes) == (JobState.QUEUED, 0, 0)
        assert status.unanswered_calls == unanswered
        assert claimed(ledger, held.job_id).unanswered_calls == unanswered


def test_a_settled_outcome_is_handed_to_the_next_holder_instead_of_the_request(ledger: Ledger) -> None:
    held = running(ledger, key="order 7", group="a run", lease=PASSED)
    assert ledger.record_outcome(held, b"the outcome")

    # Any number of crashes: it is not the job that kills them, and no call is made any more.
    for epoch in range(2, 6):
        assert ledger.rescue(held.job_id, 1, LONG) == epoch - 1
        answer = ledger.claim(held.job_id, PASSED)
        assert answer == DecidedLease(Lease(held.job_id, epoch, b"", key="order 7", group="a run"), b"the outcome")
    assert ledger.status(held.job_id).crashes == 0
    assert isinstance(answer, DecidedLease)
    assert ledger.finish(answer.lease, COMPLETION)
    assert ledger.status(held.job_id).state is JobState.SUCCEEDED
