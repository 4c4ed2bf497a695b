"""Whether a call may start, decided in one step on a real server: holds, deadlines, and rejected accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mira_queue.contract import names
from mira_queue.contract.errors import BalanceUsedUp, ModelNotInPlan
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure
from mira_queue.contract.pace import FaultStreak, Permit, ReleasedPermit
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import REJECTED_FOR, call_name
from mira_queue.ledger.records import Lease, LostCalls, NewJob, NothingToDo, new_job_id
from tests.support.ledger_steps import ACCOUNT, LIFE, LONG, PASSED, ask, claimed, confirmed

GROUP = "a-group"
NEW_ACCOUNT = f"{ACCOUNT}-with-a-new-key"
BALANCE = Failure.from_error(BalanceUsedUp("top up", 402, body={"detail": "top up"}))
SHORTEST = timedelta(milliseconds=1)
NO_MODEL = Failure.from_error(ModelNotInPlan("no", 403))


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Iterator[Ledger]:
    yield Ledger(redis_client, result_ttl=LIFE)
    redis_client.delete(names.HOLDS, *redis_client.keys(f"*{ACCOUNT}*"))


def accepted(ledger: Ledger, group: str = "", *, model: str = "mira", time_left: timedelta | None = None) -> str:
    request = ChatRequest(b"{}", model)
    job = NewJob(request, new_job_id(), "", group, Lane.BULK, time_left=time_left, pauses=bool(group))
    return ledger.accept(ACCOUNT, [job])[0].id


def running(ledger: Ledger, group: str = "", model: str = "mira") -> Lease:
    return claimed(ledger, accepted(ledger, group, model=model))


def verdicts(ledger: Ledger, *leases: Lease) -> list[str]:
    return [permit.verdict for permit in permits(ledger, *leases)]


def permits(ledger: Ledger, *leases: Lease) -> list[Permit]:
    """Return the permit of each job. The first calls of an account are spaced by some milliseconds."""
    found = []
    for lease in leases:
        state, (permit,) = ask(ledger, lease)
        while state.reason == "spacing":
            state, (permit,) = ask(ledger, lease)
        found.append(permit)
    return found


def rejected(ledger: Ledger, lease: Lease, error: Failure = BALANCE) -> None:
    (permit,) = permits(ledger, lease)
    assert permit.may_start
    released = ReleasedPermit(call_name(lease), permit)
    ledger.record_rejection(ACCOUNT, lease.job_id, released, error, of_model=error.status == 403)
    assert ledger.finish(lease, error)


def rejection_ends(client: redis.Redis, field: str = "account") -> None:
    """Let the time of a rejection pass."""
    text = client.hget(names.rejections_key(ACCOUNT), field)
    assert isinstance(text, bytes)
    client.hset(names.rejections_key(ACCOUNT), field, b"1 " + text.split(b" ", 1)[1])


def test_a_held_job_that_a_worker_has_claimed_does_not_start(ledger: Ledger) -> None:
    ours, others, single = running(ledger, GROUP), running(ledger, "another"), running(ledger)
    ledger.hold(GROUP)

    assert verdicts(ledger, ours, others, single) == ["held", "go", "go"]

    ledger.unhold("a batch", GROUP, ACCOUNT)
    assert verdicts(ledger, ours) == ["go"]


def test_a_held_job_stays_in_the_queue_where_its_supervisor_finds_it(ledger: Ledger) -> None:
    lease, waiting = running(ledger, GROUP), accepted(ledger, GROUP)
    ledger.hold(GROUP)

    assert ledger.claim(ACCOUNT, waiting, LONG) == NothingToDo("held")
    assert ledger.release(lease)
    assert ledger.remove_unstarted(ACCOUNT, [(lease.job_id, ""), (waiting, "")]) == [LostCalls(), LostCalls()]


def test_rescue_sends_no_message_for_a_held_job_and_checks_it_no_sooner_than_any_other(ledger: Ledger) -> None:
    job_id = accepted(ledger, GROUP)
    ledger.hold(GROUP)
    late_ms = round(time.time() * 1000) + 60_000

    assert ledger.queued_before(ACCOUNT, Lane.BULK, late_ms, 9) == [job_id]
    assert not ledger.resend(ACCOUNT, job_id, Lane.BULK, late_ms)
    assert ledger.status(job_id).state is JobState.QUEUED
    assert ledger.queued_before(ACCOUNT, Lane.BULK, late_ms, 9) == []

    ledger.unhold("a batch", GROUP, ACCOUNT)
    assert ledger.resend(ACCOUNT, job_id, Lane.FIRST, late_ms)


def test_a_waiting_job_of_a_held_batch_is_queued_when_it_is_due_and_not_sent(ledger: Ledger) -> None:
    lease = running(ledger, GROUP)
    assert ledger.defer(lease, timedelta(0), timedelta(0), attempts=1, unanswered_calls=0, reason="busy")
    ledger.hold(GROUP)

    assert not ledger.resend(ACCOUNT, lease.job_id)
    assert ledger.status(lease.job_id).state is JobState.QUEUED


def test_a_call_that_was_held_up_after_its_permit_does_not_start_after_a_hold(ledger: Ledger) -> None:
    lease = running(ledger, GROUP)
    assert verdicts(ledger, lease) == ["go"]
    assert confirmed(ledger, lease) == "go"

    ledger.hold(GROUP)
    assert confirmed(ledger, lease) == "held"


def test_no_call_starts_after_its_deadline(ledger: Ledger) -> None:
    late, in_time = (claimed(ledger, accepted(ledger, time_left=each)) for each in (PASSED, LONG))

    assert verdicts(ledger, late, in_time) == ["expired", "go"]
    assert ledger.claim(ACCOUNT, accepted(ledger, GROUP, time_left=PASSED), LONG) == NothingToDo("held")


def test_a_deadline_is_a_time_of_the_ledgers_clock(ledger: Ledger, redis_client: redis.Redis) -> None:
    try:
        # The server's clock stepped back by an hour while a worker read it: the ledger's clock is ahead of all others.
        redis_client.hset(names.CLOCK, mapping={"offset_ms": 3_600_000, "server_ms": round(time.time() * 1000)})
        in_time, resumed = (accepted(ledger, GROUP, time_left=each) for each in (LONG / 2, PASSED))
        ledger.set_deadline([resumed], LONG / 2)

        assert verdicts(ledger, *(claimed(ledger, each) for each in (in_time, resumed))) == ["go", "go"]
    finally:
        redis_client.delete(names.CLOCK, names.ACCOUNTS)


def test_jobs_of_a_rejected_account_get_its_error_without_a_call(ledger: Ledger) -> None:
    waiting = running(ledger)
    rejected(ledger, running(ledger))

    (permit,) = permits(ledger, waiting)

    assert (permit.verdict, permit.error) == ("rejected", BALANCE)
    assert ledger.pace_view(ACCOUNT).in_flight == 0


def test_a_batch_is_held_when_one_of_its_calls_is_rejected(ledger: Ledger) -> None:
    waiting, other = running(ledger, GROUP), running(ledger, "another")
    rejected(ledger, running(ledger, GROUP))

    # Another batch learns of the rejection from its first job.
    assert verdicts(ledger, waiting, other, running(ledger, "another")) == ["held", "rejected", "held"]


def test_a_rejection_holds_no_job_of_its_batch_that_belongs_to_another_account(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    """The file was adopted by a new key. A job of the old key was running, and stays there."""
    moved, later, due = (accepted(ledger, GROUP) for _ in range(3))
    waiting = claimed(ledger, due)
    assert ledger.adopt(ACCOUNT, NEW_ACCOUNT, [moved, later]) == ([moved, later], 0)
    claimed_by_new = claimed(ledger, moved, account=NEW_ACCOUNT)
    rejected(ledger, running(ledger, GROUP))
    late_ms = round(time.time() * 1000) + 60_000

    assert verdicts(ledger, waiting) == ["held"]
    assert ledger.claim(ACCOUNT, accepted(ledger, GROUP), LONG) == NothingToDo("held")
    assert ask(ledger, claimed_by_new, account=NEW_ACCOUNT)[1][0].verdict == "go"
    assert ledger.resend(NEW_ACCOUNT, later, Lane.FIRST, late_ms)
    assert isinstance(ledger.claim(NEW_ACCOUNT, later, LONG), Lease)


def test_a_batch_whose_account_was_fixed_starts_again_immediately(ledger: Ledger) -> None:
    rejected(ledger, running(ledger, GROUP))
    waiting = accepted(ledger, GROUP)
    assert ledger.claim(ACCOUNT, waiting, LONG) == NothingToDo("held")

    ledger.unhold("a batch", GROUP, ACCOUNT)

    assert isinstance(ledger.claim(ACCOUNT, waiting, LONG), Lease)


def test_only_jobs_of_the_rejected_model_get_its_error(ledger: Ledger) -> None:
    same, other = running(ledger, model="large"), running(ledger, model="small")
    rejected(ledger, running(ledger, model="large"), NO_MODEL)

    assert verdicts(ledger, same, other) == ["rejected", "go"]


def test_after_its_time_one_job_checks_and_its_answer_ends_the_rejection(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    rejected(ledger, running(ledger))
    rejection_ends(redis_client)
    probe, other = running(ledger), running(ledger)

    (permit,) = permits(ledger, probe)
    assert permit.verdict == "go"
    state, (waits,) = ask(ledger, other)
    assert (waits.verdict, state.reason) == ("wait", "rejected")
    assert state.wait_ms > 0

    assert ledger.release_permits(ACCOUNT, [ReleasedPermit(call_name(probe), permit)])
    assert verdicts(ledger, other) == ["go"]


def test_a_probe_that_brings_no_response_leaves_the_probing_to_the_next_job(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    rejected(ledger, running(ledger))
    rejection_ends(redis_client)
    probe, other = running(ledger), running(ledger)
    assert verdicts(ledger, probe) == ["go"]

    ledger.abandon_permit(ACCOUNT, probe.job_id, probe.epoch)

    assert verdicts(ledger, other) == ["go"]


def test_an_owner_who_has_fixed_the_account_gets_a_probe_immediately(ledger: Ledger) -> None:
    rejected(ledger, running(ledger))
    first, second = running(ledger), running(ledger)

    ledger.probe_now(ACCOUNT)

    assert verdicts(ledger, first) == ["go"]
    assert ask(ledger, second)[1][0].verdict == "wait"


@pytest.mark.parametrize(
    ("wait", "reason", "over", "verdict"),
    [
        (timedelta(hours=1), "limit", names.CALL_HISTORY, "probe"),
        (timedelta(minutes=1), "faults", names.CALL_HISTORY, "probe"),
        (timedelta(minutes=1), "limit", names.CALL_HISTORY, "wait"),
        (timedelta(minutes=1), "limit", timedelta(0), "probe"),
        (timedelta(hours=1), "limit", names.ACCOUNT_TTL, "wait"),
    ],
)
def test_a_command_ends_a_long_wait_and_cuts_short_a_rate_limit_only_if_it_says_so(
    wait: timedelta, reason: str, over: timedelta, verdict: str, ledger: Ledger
) -> None:
    lease = running(ledger)
    ledger.open_breaker(ACCOUNT, wait, reason)  # type: ignore[arg-type]

    ledger.probe_now(ACCOUNT, ends_waits_over=over)

    assert ask(ledger, lease)[1][0].verdict == verdict


def test_a_batch_is_not_held_for_long_by_a_worker_that_crashed_before_it_stored_the_rejection(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    """Its supervisor, which holds it as long as it is paused, would not learn of the rejection."""
    lease = running(ledger, GROUP)
    (permit,) = permits(ledger, lease)
    ledger.record_rejection(ACCOUNT, lease.job_id, ReleasedPermit(call_name(lease), permit), BALANCE, of_model=False)

    expires_ms = redis_client.zscore(names.HOLDS, f"{GROUP} {ACCOUNT}")
    assert isinstance(expires_ms, float)
    assert expires_ms / 1000 - time.time() <= REJECTED_FOR.total_seconds()


def test_nothing_of_it_lives_forever(ledger: Ledger, redis_client: redis.Redis) -> None:
    rejected(ledger, running(ledger, GROUP))

    assert redis_client.ttl(names.HOLDS) > 0
    assert redis_client.ttl(names.rejections_key(ACCOUNT)) > 0


def test_calls_that_fail_together_open_the_breaker_once_and_lengthen_its_pause_by_one_step(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    leases = [running(ledger) for _ in range(32)]
    together = list(zip(leases, permits(ledger, *leases), strict=True))
    # All faults are recorded before the first of them opens the breaker.
    streaks = [ledger.record_fault(ACCOUNT, lease, permit) for lease, permit in together]
    assert not any(streak.is_old for streak in streaks)

    opened = [ledger.open_breaker(ACCOUNT, timedelta(seconds=1), "faults", permit=permit) for _, permit in together]

    assert [bool(each) for each in opened] == [True] + [False] * 31
    assert redis_client.hget(names.pace_key(ACCOUNT), "openings_faults") == b"1"


@given(st.lists(st.integers(0, 5), min_size=12, max_size=12))
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_in_whatever_order_the_faults_of_one_event_are_recorded_they_open_the_breaker_once(
    ledger: Ledger, redis_client: redis.Redis, order: list[int]
) -> None:
    """Each worker takes two steps. Other workers' steps come in between, and some come when a probe is in flight."""
    redis_client.delete(*(key(ACCOUNT) for key in (names.pace_key, names.in_flight_key, names.faults_key)))
    leases = [running(ledger) for _ in range(6)]
    calls = list(zip(leases, permits(ledger, *leases), strict=True))
    streaks: dict[int, FaultStreak] = {}
    opened = 0
    for number in [*order, *range(6), *range(6)]:
        lease, permit = calls[number]
        if number not in streaks:
            streaks[number] = ledger.record_fault(ACCOUNT, lease, permit)
        elif not streaks[number].is_old:
            opened += bool(ledger.open_breaker(ACCOUNT, SHORTEST, "faults", permit=permit))
        if opened:
            # The breaker is due for a probe, which may be in flight when the other faults arrive.
            ask(ledger, running(ledger))

    assert opened == 1
    assert redis_client.hget(names.pace_key(ACCOUNT), "openings_faults") == b"1"


def test_a_resumed_run_gives_the_jobs_that_it_finds_its_own_deadline(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id, deleted = accepted(ledger, GROUP, time_left=PASSED), new_job_id()
    assert ledger.claim(ACCOUNT, job_id, LONG) == NothingToDo("held")

    ledger.set_deadline([job_id, deleted], None)
    assert verdicts(ledger, claimed(ledger, job_id)) == ["go"]

    ledger.set_deadline([job_id, deleted], PASSED)
    assert redis_client.hexists(names.job_key(job_id), "deadline_ms")
    assert not redis_client.exists(names.job_key(deleted))


def test_a_batch_goes_on_without_the_lines_of_a_rejected_model(ledger: Ledger) -> None:
    same, other = running(ledger, GROUP, model="large"), running(ledger, GROUP, model="small")
    rejected(ledger, running(ledger, GROUP, model="large"), NO_MODEL)

    assert verdicts(ledger, same, other) == ["held", "go"]
    another = [running(ledger, "another", model="large") for _ in range(2)]
    assert verdicts(ledger, *another) == ["rejected", "held"]


def test_a_hold_outlives_the_run_that_set_it_because_jobs_of_a_killed_one_may_be_left(ledger: Ledger) -> None:
    left = running(ledger, GROUP)
    ledger.hold(GROUP)

    ledger.drop_group(GROUP)

    assert verdicts(ledger, left) == ["held"]


def test_an_expired_hold_does_not_stop_a_call_that_has_its_permit(ledger: Ledger, redis_client: redis.Redis) -> None:
    lease = running(ledger, GROUP)
    assert permits(ledger, lease)[0].may_start
    ledger.hold(GROUP)
    redis_client.zadd(names.HOLDS, {GROUP: 1})

    assert confirmed(ledger, lease) == "go"


def test_a_process_that_stops_during_a_long_wait_loses_its_turn(ledger: Ledger, redis_client: redis.Redis) -> None:
    ledger.open_breaker(ACCOUNT, timedelta(hours=1))

    state, _ = ask(ledger, running(ledger))

    assert state.reason == "breaker"
    ends_ms = redis_client.zscore(names.turn_ends_key(ACCOUNT), "a process")
    assert isinstance(ends_ms, float)
    assert ends_ms - state.now_ms <= (names.MAX_SLEEP + names.TURN) / timedelta(milliseconds=1)


def deadline_passes(ledger: Ledger, lease: Lease) -> None:
    ledger.set_deadline([lease.job_id], PASSED)


def another_call_is_rejected(ledger: Ledger, lease: Lease) -> None:
    rejected(ledger, running(ledger, model="mira"))


def the_model_is_rejected(ledger: Ledger, lease: Lease) -> None:
    rejected(ledger, running(ledger, "another"), NO_MODEL)


@pytest.mark.parametrize(
    ("act", "verdict"),
    [
        (lambda ledger, lease: ledger.hold(GROUP), "held"),
        (lambda ledger, lease: ledger.cancel(lease.job_id), "lost"),
        (lambda ledger, lease: ledger.release(lease), "lost"),
        (deadline_passes, "expired"),
        (another_call_is_rejected, "rejected"),
        (the_model_is_rejected, "rejected"),
        (lambda ledger, lease: ledger.open_breaker(ACCOUNT, PASSED), "wait"),
        (lambda ledger, lease: ledger.abandon_permit(ACCOUNT, lease.job_id, lease.epoch), "wait"),
    ],
    ids=["hold", "cancel", "lost lease", "deadline", "account", "model", "breaker", "expired permit"],
)
def test_a_call_that_was_held_up_after_its_permit_is_subject_to_the_same_rule_as_a_new_one(
    act: Callable[[Ledger, Lease], object], verdict: str, ledger: Ledger, redis_client: redis.Redis
) -> None:
    lease, other = running(ledger, GROUP), running(ledger, "another", model="other")
    assert verdicts(ledger, lease, other) == ["go", "go"]

    act(ledger, lease)

    assert confirmed(ledger, lease) == verdict
    assert redis_client.zscore(names.in_flight_key(ACCOUNT), call_name(lease)) is None
    assert redis_client.zscore(names.in_flight_key(ACCOUNT), call_name(other))


def test_a_model_that_is_held_for_a_batch_stops_its_call_that_was_held_up(ledger: Ledger) -> None:
    lease, other = running(ledger, GROUP, model="large"), running(ledger, GROUP, model="small")
    assert verdicts(ledger, lease, other) == ["go", "go"]

    rejected(ledger, running(ledger, GROUP, model="large"), NO_MODEL)

    assert (confirmed(ledger, lease), confirmed(ledger, other)) == ("held", "go")


def test_the_call_that_checks_a_rejection_may_be_held_up_and_only_one_of_them_checks(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    old = running(ledger)
    assert verdicts(ledger, old) == ["go"]
    rejected(ledger, running(ledger))
    rejection_ends(redis_client)
    probe = running(ledger)
    assert verdicts(ledger, probe) == ["go"]

    assert confirmed(ledger, probe) == "go"
    assert confirmed(ledger, old) == "wait"


def test_a_permit_that_was_given_up_before_its_call_leaves_no_call_that_may_have_been_billed(ledger: Ledger) -> None:
    """Three workers that crash while the job waits for its next permit do not make it poison."""
    lease = running(ledger)
    assert verdicts(ledger, lease) == ["go"]
    ledger.open_breaker(ACCOUNT, timedelta(hours=1))
    assert confirmed(ledger, lease) == "wait"

    assert ledger.release(lease)

    status = ledger.status(lease.job_id)
    assert (status.state, status.unanswered_calls) == (JobState.QUEUED, 0)


def test_a_permit_of_an_earlier_lease_that_is_given_up_leaves_the_next_call_as_it_is(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    old = running(ledger)
    assert verdicts(ledger, old) == ["go"]
    assert ledger.release(old)
    new = claimed(ledger, old.job_id)
    assert verdicts(ledger, new) == ["go"]

    assert confirmed(ledger, old) == "lost"

    assert redis_client.hexists(names.job_key(new.job_id), "calling")
    assert confirmed(ledger, new) == "go"


def test_a_permit_whose_response_was_lost_is_not_granted_again_after_a_hold(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    lease = running(ledger, GROUP)
    assert verdicts(ledger, lease) == ["go"]
    ledger.hold(GROUP)

    assert verdicts(ledger, lease) == ["held"]
    assert redis_client.hget(names.job_key(lease.job_id), "calling") is None
    assert ledger.pace_view(ACCOUNT).in_flight == 0
