"""The ledger's verbs for producers, on a real server: accept, status, cancel, retry."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import redis
from mira_worker.rejected_alone import after_rejection

from mira_queue.contract import names
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.errors import IdempotencyConflict, JobNotFound
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import outcome_of_record
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import LostCalls, NewJob, NothingToDo, new_job_id
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LONG,
    PASSED,
    accepted,
    begun,
    claimed,
    defer,
    ended,
    life_ms,
    new_job,
    running,
    snapshot,
    waiting,
)

LOST = {"prompt_tokens": 14, "completion_tokens": 6}

# --- accept ---


def test_an_accepted_job_is_queued_and_lives_until_it_ends(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = accepted(ledger, key="order 7")

    status = ledger.status(job_id)
    assert (status.state, status.attempts, status.finished_ms) == (JobState.QUEUED, 0, None)
    assert status.created_ms > 0
    for key in (names.job_key(job_id), names.request_key(job_id), names.idempotency_key(ACCOUNT, "order 7")):
        assert life_ms(redis_client, key) == -1


def test_many_jobs_are_accepted_in_their_order(ledger: Ledger) -> None:
    # More than one run of the script takes.
    jobs = [new_job(f"order {number}", text=f"number {number}") for number in range(250)]

    assert [answer.id for answer in ledger.accept(ACCOUNT, jobs)] == [job.id for job in jobs]
    assert [status.state for status in ledger.statuses([job.id for job in jobs])] == [JobState.QUEUED] * 250


def test_large_requests_are_accepted_in_their_order(ledger: Ledger) -> None:
    jobs = [NewJob(ChatRequest(b"%d" % number * 400_000), new_job_id()) for number in range(7)]

    assert [answer.id for answer in ledger.accept(ACCOUNT, jobs)] == [job.id for job in jobs]
    assert [claimed(ledger, job.id).body for job in jobs] == [job.request.body for job in jobs]


def test_jobs_that_are_there_already_are_told_from_new_ones_among_many(ledger: Ledger) -> None:
    first = ledger.accept(ACCOUNT, [new_job(f"order {number}") for number in range(0, 250, 3)])

    answers = ledger.accept(ACCOUNT, [new_job(f"order {number}") for number in range(250)])

    assert [answer.id for answer in answers[::3]] == [answer.id for answer in first]
    assert [answer.is_new for answer in answers] == [number % 3 != 0 for number in range(250)]


def test_a_key_that_comes_twice_in_one_call_is_one_job(ledger: Ledger) -> None:
    first, second = ledger.accept(ACCOUNT, [new_job("order 7"), new_job("order 7")])

    assert (second.id, first.is_new, second.is_new) == (first.id, True, False)


def test_the_same_key_and_request_is_the_same_job(ledger: Ledger, redis_client: redis.Redis) -> None:
    (first,) = ledger.accept(ACCOUNT, [new_job("order 7")])
    before = snapshot(redis_client)

    (second,) = ledger.accept(ACCOUNT, [new_job("order 7")])

    assert (second.id, first.is_new, second.is_new) == (first.id, True, False)
    assert snapshot(redis_client) == before


@pytest.mark.parametrize("outcome", [COMPLETION, FAILURE], ids=["succeeded", "failed"])
def test_the_key_of_a_job_that_has_ended_still_finds_it(outcome: Any, ledger: Ledger) -> None:
    job_id = ended(ledger, outcome, key="order 7")

    (again,) = ledger.accept(ACCOUNT, [new_job("order 7")])

    assert (again.id, again.is_new) == (job_id, False)


def test_the_same_key_with_another_request_is_a_conflict_and_the_others_are_accepted(ledger: Ledger) -> None:
    (first,) = ledger.accept(ACCOUNT, [new_job("order 7", text="one")])
    others = [new_job(), new_job("order 7", text="two"), new_job()]

    with pytest.raises(IdempotencyConflict) as conflict:
        ledger.accept(ACCOUNT, others)

    assert (conflict.value.key, conflict.value.job_id) == ("order 7", first.id)
    assert ledger.status(others[0].id).state is JobState.QUEUED
    assert ledger.status(others[2].id).state is JobState.QUEUED
    with pytest.raises(JobNotFound):
        ledger.status(others[1].id)


def test_of_many_that_use_one_key_at_once_one_makes_the_job(ledger: Ledger, redis_client: redis.Redis) -> None:
    starting = threading.Barrier(8)

    def accept(_: int) -> Any:
        starting.wait()
        return ledger.accept(ACCOUNT, [new_job("order 7")])[0]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(accept, range(8)))

    assert len({answer.id for answer in answers}) == 1
    assert [answer.is_new for answer in answers].count(True) == 1
    assert len(redis_client.keys(names.job_key("*"))) == 1


def test_a_key_says_nothing_of_what_the_caller_put_in_it(ledger: Ledger, redis_client: redis.Redis) -> None:
    accepted(ledger, key="patient Jane Roe " * 100)

    assert all(b"Jane" not in key and len(key) < 100 for key in redis_client.scan_iter())


def test_what_was_never_accepted_is_not_found(ledger: Ledger) -> None:
    for ask in (ledger.status, ledger.cancel, ledger.retry):
        with pytest.raises(JobNotFound, match="no job nowhere"):
            ask("nowhere")
    assert ledger.claim(ACCOUNT, "nowhere", LONG) == NothingToDo("missing")


# --- cancel ---


def cancelled(ledger: Ledger) -> str:
    job_id = accepted(ledger)
    assert ledger.cancel(job_id)
    return job_id


def settled(ledger: Ledger) -> str:
    held = begun(ledger)
    assert ledger.record_outcome(held, b"[]")
    return held.job_id


@pytest.mark.parametrize(
    ("make", "done", "state"),
    [
        (accepted, True, JobState.CANCELLED),
        (lambda ledger: running(ledger).job_id, True, JobState.CANCELLED),
        (lambda ledger: begun(ledger).job_id, True, JobState.CANCELLED),
        (waiting, True, JobState.CANCELLED),
        (cancelled, True, JobState.CANCELLED),
        (lambda ledger: ended(ledger, COMPLETION), False, JobState.SUCCEEDED),
        (lambda ledger: ended(ledger, FAILURE), False, JobState.FAILED),
        (settled, False, JobState.RUNNING),
    ],
    ids=["queued", "running", "calling", "waiting", "cancelled", "succeeded", "failed", "settled"],
)
def test_a_job_can_be_cancelled_until_it_has_an_outcome(
    make: Callable[[Ledger], str], done: bool, state: JobState, ledger: Ledger
) -> None:
    job_id = make(ledger)

    assert ledger.cancel(job_id) is done
    assert ledger.status(job_id).state is state


def test_a_cancelled_job_gets_no_outcome_any_more(ledger: Ledger, redis_client: redis.Redis) -> None:
    held = begun(ledger, key="order 7", group="a group")
    ledger.cancel(held.job_id)
    before = snapshot(redis_client)

    assert ledger.finish(held, COMPLETION) is False
    assert ledger.extend([held], LONG) == [False]
    assert ledger.record_outcome(held, b"[]") is False
    assert defer(ledger, held) is False
    assert ledger.release(held) is False
    assert ledger.claim(ACCOUNT, held.job_id, LONG) == NothingToDo("final")
    assert not ledger.retry(held.job_id)
    assert snapshot(redis_client) == before


def test_a_call_that_was_in_flight_when_its_job_was_cancelled_is_counted(ledger: Ledger) -> None:
    held, quiet = begun(ledger), running(ledger)

    ledger.cancel(held.job_id)
    ledger.cancel(quiet.job_id)

    assert ledger.status(held.job_id).unanswered_calls == 1
    assert ledger.status(quiet.job_id).unanswered_calls == 0


def paid(ledger: Ledger, group: str = "") -> str:
    """Return a job that waits, and has received a response that was paid for and could not be used."""
    held = running(ledger, group=group)
    history = CallHistory(prompt_tokens=14, completion_tokens=6, rejections=5)
    assert ledger.defer(held, LONG, LONG, attempts=1, unanswered_calls=0, reason="broken", history=history)
    return held.job_id


def test_tokens_that_a_job_has_paid_for_are_counted_when_it_is_cancelled(ledger: Ledger) -> None:
    job_id = paid(ledger)

    assert ledger.cancel(job_id)

    (record,) = ledger.records([job_id])
    assert record is not None
    assert outcome_of_record(record).lost_usage == LOST
    assert ledger.status(job_id).lost_usage == LOST


def test_a_response_that_arrives_while_its_job_is_cancelled_is_counted(ledger: Ledger) -> None:
    """The worker defers the job after the caller has read it, and before the caller's script runs."""
    held, entries = running(ledger), ledger._entries

    def paid_meanwhile(job_ids: Sequence[str]) -> list[dict[str, str]]:
        read = entries(job_ids)
        ledger.defer(
            held, LONG, LONG, attempts=1, unanswered_calls=0, reason="broken", history=CallHistory(False, 14, 6)
        )
        return read

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "_entries", paid_meanwhile)
        assert ledger.cancel(held.job_id)

    (record,) = ledger.records([held.job_id])
    assert record is not None
    assert outcome_of_record(record).lost_usage == LOST


def test_tokens_that_a_failed_job_has_paid_for_stay_counted_when_it_is_retried(ledger: Ledger) -> None:
    """The response that ended it is recorded only in its outcome, which a retry deletes."""
    held = running(ledger)
    assert ledger.finish(held, replace(FAILURE, lost_usage=LOST))

    assert ledger.retry(held.job_id)

    assert claimed(ledger, held.job_id).history == CallHistory(prompt_tokens=14, completion_tokens=6)


def test_a_withdrawn_job_leaves_the_tokens_that_it_has_paid_for(ledger: Ledger) -> None:
    assert ledger.remove_unstarted(ACCOUNT, [(paid(ledger, "a run"), "")]) == [LostCalls(0, LOST)]


def test_a_withdrawn_job_owns_to_its_calls_that_were_not_answered(ledger: Ledger) -> None:
    held = begun(ledger, group="a run")
    ledger.release(held)

    assert ledger.remove_unstarted(ACCOUNT, [(held.job_id, "")]) == [LostCalls(1)]


def test_jobs_that_have_not_begun_can_be_withdrawn_and_leave_nothing(ledger: Ledger, redis_client: redis.Redis) -> None:
    held, idle = running(ledger, "key 1", "a run"), accepted(ledger, "key 2", "a run")
    over = ended(ledger, COMPLETION, group="a run")

    jobs = [(held.job_id, "key 1"), (idle, "key 2"), (over, ""), ("never heard of", "")]
    assert ledger.remove_unstarted(ACCOUNT, jobs) == [None, LostCalls(), None, LostCalls()]

    assert ledger.status(held.job_id).state is JobState.RUNNING
    assert ledger.status(over).state is JobState.SUCCEEDED
    assert not [key for key in redis_client.scan_iter() if idle.encode() in key]
    assert not redis_client.exists(names.queued_key(ACCOUNT, Lane.NORMAL), names.idempotency_key(ACCOUNT, "key 2"))


# --- retry ---


def test_a_failed_job_runs_again_as_new_but_for_its_lost_answers(ledger: Ledger, redis_client: redis.Redis) -> None:
    dead = begun(ledger, key="order 7", lease=PASSED)
    assert ledger.rescue(ACCOUNT, dead.job_id, 3, LONG) == dead.epoch
    held = claimed(ledger, dead.job_id)
    assert held.crashes == 1
    failure = FAILURE.__class__(**{**FAILURE.to_dict(), "attempts": 5, "unanswered_calls": 2})
    ledger.finish(held, failure)

    assert ledger.retry(held.job_id)

    status = ledger.status(held.job_id)
    assert (status.state, status.attempts, status.crashes, status.unanswered_calls) == (JobState.QUEUED, 0, 0, 2)
    assert (status.reason, status.finished_ms) == (None, None)
    for key in (names.job_key(held.job_id), names.request_key(held.job_id), names.idempotency_key(ACCOUNT, "order 7")):
        assert life_ms(redis_client, key) == -1
    assert redis_client.get(names.result_key(held.job_id)) is None
    again = claimed(ledger, held.job_id)
    assert (again.body, again.unanswered_calls) == (held.body, 2)
    assert again.epoch > held.epoch


def test_an_adopted_job_keeps_its_history_but_not_the_429s_of_its_old_account(ledger: Ledger) -> None:
    held = running(ledger)
    history = CallHistory(
        is_streamed=True, prompt_tokens=40, completion_tokens=2, rejections=6, sent=90, rate_limited=7
    )
    assert ledger.defer(held, LONG, LONG, attempts=0, unanswered_calls=0, reason="", history=history)

    assert ledger.adopt(ACCOUNT, "another-account", [held.job_id]) == ([held.job_id], 0)

    taken = claimed(ledger, held.job_id, account="another-account")
    assert taken.history == replace(history, rejections=0)
    # The first 429 there begins a new count.
    assert after_rejection(taken.history, sent=100, rate_limited=1).rejections == 1


@pytest.mark.parametrize(
    ("make", "state"),
    [
        (accepted, JobState.QUEUED),
        (lambda ledger: running(ledger).job_id, JobState.RUNNING),
        (waiting, JobState.WAITING),
        (lambda ledger: ended(ledger, COMPLETION), JobState.SUCCEEDED),
        (cancelled, JobState.CANCELLED),
    ],
    ids=["queued", "running", "waiting", "succeeded", "cancelled"],
)
def test_a_job_that_has_not_failed_is_not_retried(
    make: Callable[[Ledger], str], state: JobState, ledger: Ledger, redis_client: redis.Redis
) -> None:
    job_id = make(ledger)
    before = snapshot(redis_client)

    assert not ledger.retry(job_id)
    assert ledger.status(job_id).state == state
    assert snapshot(redis_client) == before
