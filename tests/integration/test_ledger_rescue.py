"""Rescue in the ledger, and the account's circuit breaker, on a real server."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import orjson
import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.names import Lane
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LONG,
    PASSED,
    accepted,
    begin,
    begun,
    claimed,
    defer,
    land,
    running,
    snapshot,
)
from tests.support.waiting import wait_until


def test_a_job_is_rescued_from_a_crashed_worker_by_one_of_many(ledger: Ledger) -> None:
    held = begun(ledger, PASSED)
    starting = threading.Barrier(8)

    def rescue(_: int) -> Lease | int | None:
        starting.wait()
        return ledger.rescue(ACCOUNT, held.job_id, 3, LONG)

    assert ledger.expired_leases(ACCOUNT, 10) == [held.job_id]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(rescue, range(8))).count(held.epoch) == 1

    status = ledger.status(held.job_id)
    assert (status.state, status.crashes, status.unanswered_calls) == (JobState.QUEUED, 1, 1)


def test_a_worker_that_died_before_its_call_cost_nothing(ledger: Ledger) -> None:
    held = running(ledger, lease=PASSED)

    assert ledger.rescue(ACCOUNT, held.job_id, 3, LONG) == held.epoch

    assert ledger.status(held.job_id).unanswered_calls == 0


def test_a_job_whose_worker_lives_is_not_rescued(ledger: Ledger, redis_client: redis.Redis) -> None:
    held = running(ledger)
    before = snapshot(redis_client)

    assert ledger.expired_leases(ACCOUNT, 10) == []
    assert ledger.rescue(ACCOUNT, held.job_id, 3, LONG) is None
    assert ledger.rescue(ACCOUNT, "nowhere", 3, LONG) is None
    assert snapshot(redis_client) == before


def test_a_job_that_kills_its_workers_is_set_aside_as_poison(ledger: Ledger) -> None:
    job_id = accepted(ledger, key="order 7", group="a run")
    paid = CallHistory(prompt_tokens=40, completion_tokens=2)
    waits = claimed(ledger, job_id)
    assert ledger.defer(waits, PASSED, PASSED, attempts=0, unanswered_calls=0, reason="", history=paid)
    for crash in range(1, 3):
        assert begin(ledger, claimed(ledger, job_id, PASSED)) == "go"
        assert ledger.rescue(ACCOUNT, job_id, 3, LONG) == crash + 1
    last = claimed(ledger, job_id, PASSED)
    assert begin(ledger, last) == "go"

    poison = ledger.rescue(ACCOUNT, job_id, 3, LONG)

    assert isinstance(poison, Lease)
    assert (poison.crashes, poison.unanswered_calls, poison.key, poison.group) == (3, 3, "order 7", "a run")
    assert poison.history == paid
    assert ledger.finish(last, COMPLETION) is False
    assert ledger.finish(poison, FAILURE) is True


def test_a_rescuer_that_died_with_a_poisoned_job_is_followed_by_another(ledger: Ledger) -> None:
    job_id = begun(ledger, lease=PASSED).job_id
    first = ledger.rescue(ACCOUNT, job_id, 1, PASSED)

    second = ledger.rescue(ACCOUNT, job_id, 1, LONG)

    assert isinstance(first, Lease)
    assert isinstance(second, Lease)
    assert ledger.finish(first, FAILURE) is False
    assert ledger.finish(second, FAILURE) is True


def test_a_wait_that_is_over_is_sent_on_by_one_of_many(ledger: Ledger) -> None:
    due, early = running(ledger), running(ledger)
    defer(ledger, due, PASSED)
    defer(ledger, early, LONG)
    starting = threading.Barrier(8)

    def resend(_: int) -> Lane | None:
        starting.wait()
        return ledger.resend(ACCOUNT, due.job_id)

    assert ledger.overdue(ACCOUNT, 10) == [due.job_id]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(resend, range(8))).count(Lane.FIRST) == 1
    assert ledger.resend(ACCOUNT, early.job_id) is None
    assert ledger.status(due.job_id).state is JobState.QUEUED


def test_a_wait_with_a_message_on_its_way_is_left_alone_until_that_counts_as_lost(ledger: Ledger) -> None:
    held = running(ledger)
    defer(ledger, held, PASSED, lost_after=LONG)

    assert ledger.overdue(ACCOUNT, 10) == []
    assert ledger.resend(ACCOUNT, held.job_id) is None


def message(job_id: str) -> bytes:
    return orjson.dumps({"headers": {"id": job_id}, "body": "..."})


@pytest.mark.parametrize("lane", list(Lane))
def test_a_job_older_than_the_head_of_its_lane_has_lost_its_message(
    lane: Lane, ledger: Ledger, redis_client: redis.Redis
) -> None:
    jobs = [accepted(ledger) for _ in range(3)]
    redis_client.delete(names.queued_key(ACCOUNT, Lane.NORMAL))
    redis_client.zadd(names.queued_key(ACCOUNT, lane), {job: 1_000 * place for place, job in enumerate(jobs, 1)})
    # Newest at the left, next at the right.
    redis_client.lpush(names.messages_key(ACCOUNT, lane), message(jobs[1]), message(jobs[2]))

    before_ms = ledger.lost_before_ms(ACCOUNT, lane, ledger.head(ACCOUNT, lane), timedelta(milliseconds=500))

    assert ledger.head(ACCOUNT, lane) == jobs[1]
    assert before_ms == 1_500
    assert ledger.queued_before(ACCOUNT, lane, before_ms, 10) == [jobs[0]]
    assert ledger.resend(ACCOUNT, jobs[1], lane, before_ms) is None
    assert ledger.resend(ACCOUNT, jobs[0], lane, before_ms) is Lane.FIRST
    assert ledger.queued_before(ACCOUNT, lane, before_ms, 10) == []
    assert (redis_client.zscore(names.queued_key(ACCOUNT, Lane.FIRST), jobs[0]) or 0) > 1_000_000


def test_in_an_empty_lane_every_message_that_is_old_enough_is_lost(ledger: Ledger) -> None:
    job_id = accepted(ledger)

    assert ledger.head(ACCOUNT, Lane.NORMAL) is None
    young = ledger.lost_before_ms(ACCOUNT, Lane.NORMAL, None, LONG)
    old = ledger.lost_before_ms(ACCOUNT, Lane.NORMAL, None, -LONG)
    assert ledger.queued_before(ACCOUNT, Lane.NORMAL, young, 10) == []
    assert ledger.queued_before(ACCOUNT, Lane.NORMAL, old, 10) == [job_id]


@pytest.mark.parametrize("head", [b"no JSON", b"{}", message("somebody's")])
def test_behind_a_message_that_says_nothing_no_job_counts_as_lost(
    head: bytes, ledger: Ledger, redis_client: redis.Redis
) -> None:
    accepted(ledger)
    redis_client.lpush(names.messages_key(ACCOUNT, Lane.NORMAL), head)

    assert ledger.lost_before_ms(ACCOUNT, Lane.NORMAL, ledger.head(ACCOUNT, Lane.NORMAL), -LONG) == 0


# --- the circuit breaker ---


def test_while_the_breaker_is_open_nothing_leaves_and_the_longest_wait_holds(ledger: Ledger) -> None:
    held = running(ledger)
    assert ledger.open_breaker("an-account", LONG) == LONG
    assert LONG - timedelta(minutes=1) < ledger.open_breaker("an-account", timedelta(seconds=1)) <= LONG

    assert begin(ledger, held) == "wait"
    assert begin(ledger, held, account="another-account") == "go"
    assert ledger.pace_view("an-account").open_for > timedelta(minutes=50)


def test_when_the_wait_is_over_one_probe_goes_first_and_then_everybody(ledger: Ledger) -> None:
    ledger.open_breaker("an-account", timedelta(milliseconds=1))
    wait_until("the breaker is due for a probe", lambda: not ledger.pace_view("an-account").open_for)
    crowd = [running(ledger) for _ in range(5)]

    verdicts = [begin(ledger, held) for held in crowd]
    assert land(ledger, crowd[0]) is True

    assert verdicts == ["probe", "wait", "wait", "wait", "wait"]
    assert [begin(ledger, held) for held in crowd[1:]] == ["go"] * 4


def test_a_job_that_waited_for_the_breaker_is_not_to_blame_for_its_workers_death(ledger: Ledger) -> None:
    job_id = running(ledger, lease=PASSED).job_id

    assert ledger.rescue(ACCOUNT, job_id, 1, LONG) == 1

    assert ledger.status(job_id).crashes == 0


def test_the_probe_of_a_crashed_worker_is_followed_by_another(ledger: Ledger) -> None:
    account = "an-account"
    ledger.open_breaker(account, timedelta(milliseconds=1))
    wait_until("the breaker is due for a probe", lambda: not ledger.pace_view(account).open_for)
    dead, other = running(ledger), running(ledger)
    assert (begin(ledger, dead), begin(ledger, other)) == ("probe", "wait")

    assert ledger.abandon_permit(account, other.job_id, other.epoch) is False
    assert ledger.abandon_permit(account, dead.job_id, dead.epoch) is True

    assert begin(ledger, other) == "probe"
    assert ledger.abandon_permit(account, dead.job_id, dead.epoch) is False


def test_the_permit_of_a_jobs_next_call_outlives_the_rescue_of_its_last(ledger: Ledger) -> None:
    """Between the two steps of a rescuer, another worker has claimed the job and acquired a permit."""
    dead = begun(ledger, PASSED)
    expired = ledger.rescue(ACCOUNT, dead.job_id, 3, LONG)
    assert isinstance(expired, int)
    ledger.open_breaker("an-account", PASSED)
    other = running(ledger)
    probe = claimed(ledger, dead.job_id)
    assert begin(ledger, probe) == "probe"

    assert ledger.abandon_permit("an-account", dead.job_id, expired) is False

    assert begin(ledger, other) == "wait"
    assert land(ledger, probe) is True
