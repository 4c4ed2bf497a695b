"""The pacer's operations on a real server: permits, turns, circuit breaker and probe, windows, faults, estimates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mira_queue.contract import names
from mira_queue.contract.pace import ConfiguredLimits, Estimate, FaultStreak, Limit, PaceState, Permit, ReleasedPermit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import WakeUps, call_name
from mira_queue.ledger.records import Lease
from tests.support.ledger_steps import LONG, MANY, PASSED, confirmed, running
from tests.support.waiting import wait_until

ACCOUNT = "an-account"
# A clock of the tests' own: nothing waits for it.
START_MS = 1_000_000_000_000
MINUTE = timedelta(minutes=1)
SHORT = timedelta(milliseconds=20)
AGAIN_MS = 250
# The keys of an account, each with an end.
KEYS = [
    names.pace_key, names.sent_key, names.tokens_key, names.in_flight_key, names.turns_key, names.turn_ends_key,
    names.faults_key,
]  # fmt: skip
KNOWN = Estimate(rate=Limit(5, 60_000, START_MS), in_flight=Limit(3, 5_000, START_MS), max_accepted=3, margin_ms=250)


class Line:
    """A process that asks, at a time of its own."""

    def __init__(
        self, ledger: Ledger, name: str = "a process", configured: ConfiguredLimits = MANY, weight: float = 1.0
    ) -> None:
        self.ledger = ledger
        self.name = name
        self.configured = configured
        self.weight = weight

    def ask(
        self,
        *leases: Lease,
        at_ms: int = 0,
        tokens: int = 0,
        released: Sequence[ReleasedPermit] = (),
        call_lease: timedelta = LONG,
        probe_lease: timedelta = LONG,
    ) -> tuple[PaceState, list[Permit]]:
        return self.ledger.acquire_permits(
            ACCOUNT,
            self.name,
            [(lease, tokens) for lease in leases],
            released,
            configured=self.configured,
            call_lease=call_lease,
            probe_lease=probe_lease,
            ask_again=timedelta(milliseconds=AGAIN_MS),
            weight=self.weight,
            now_ms=START_MS + at_ms,
        )

    def verdicts(self, *leases: Lease, at_ms: int = 0, tokens: int = 0) -> list[str]:
        return [permit.verdict for permit in self.ask(*leases, at_ms=at_ms, tokens=tokens)[1]]

    def fly(self, *leases: Lease, at_ms: int = 0) -> list[Permit]:
        """One by one, as the calls of a new account leave."""
        permits = []
        for index, lease in enumerate(leases):
            _, (permit,) = self.ask(lease, at_ms=at_ms + 5 * index)
            assert permit.verdict == "go"
            permits.append(permit)
        return permits


@pytest.fixture
def line(ledger: Ledger) -> Line:
    return Line(ledger)


def jobs(ledger: Ledger, count: int) -> list[Lease]:
    return [running(ledger) for _ in range(count)]


def released(lease: Lease, permit: Permit | None = None, **changes: Any) -> ReleasedPermit:
    return replace(ReleasedPermit(call_name(lease), permit or Permit("go")), **changes)


def in_flight(client: redis.Redis) -> int:
    return client.zcard(names.in_flight_key(ACCOUNT))


def now_ms(client: redis.Redis) -> int:
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


# --- the replica of what the API counts ---


def test_each_call_is_told_how_many_left_before_it_and_how_many_are_out_with_it(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(rate=100, window_ms=60_000, in_flight=1000))

    permits = line.fly(*jobs(ledger, 3), at_ms=100)

    assert [(permit.in_window, permit.in_flight) for permit in permits] == [(0, 1), (1, 2), (2, 3)]
    assert [permit.at_ms - START_MS for permit in permits] == [100, 105, 110]


def test_the_window_slides_and_a_rate_limited_call_stays_in_it(ledger: Ledger, line: Line) -> None:
    first, second, third, last = jobs(ledger, 4)
    line.fly(first)
    line.fly(second, at_ms=1_000)
    (permit,) = line.fly(third, at_ms=2_000)
    assert ledger.release_permits(ACCOUNT, [released(first)]) is False

    _, _, seen = ledger.record_rate_limit(
        ACCOUNT, call_name(third), permit, timedelta(seconds=2), now_ms=START_MS + 2_010
    )
    # Of the Retry-After's length before it left, the first call is just out.
    assert (seen.in_window, seen.in_flight, seen.now_ms) == (2, 2, START_MS + 2_010)
    _, _, longer = ledger.record_rate_limit(
        ACCOUNT, call_name(third), permit, timedelta(milliseconds=2_001), now_ms=START_MS + 2_020
    )
    assert (longer.in_window, longer.in_flight) == (3, 1)

    counting = Line(ledger, configured=ConfiguredLimits(rate=3, window_ms=10_000, in_flight=1000))
    pace, _ = counting.ask(last, at_ms=9_000)
    assert (pace.reason, pace.wait_ms) == ("configured", 1_000)
    assert counting.verdicts(last, at_ms=9_999) == ["wait"]
    assert counting.verdicts(last, at_ms=10_000) == ["go"]


def test_calls_that_are_rate_limited_together_find_each_other_still_counted(ledger: Ledger, line: Line) -> None:
    leases = jobs(ledger, 3)
    permits = line.fly(*leases)

    seen = [
        ledger.record_rate_limit(ACCOUNT, call_name(lease), permit, MINUTE, now_ms=START_MS + 50)[2]
        for lease, permit in zip(leases, permits, strict=True)
    ]

    assert [(one.in_window, one.in_flight) for one in seen] == [(3, 3), (3, 2), (3, 1)]


def test_an_answer_frees_its_slot_once_and_no_other(ledger: Ledger, line: Line, redis_client: redis.Redis) -> None:
    first, second = jobs(ledger, 2)
    line.fly(first, second)

    for _ in range(2):
        ledger.release_permits(ACCOUNT, [released(first)])
        assert in_flight(redis_client) == 1
    line.ask(released=[released(second)], at_ms=20)
    assert in_flight(redis_client) == 0


def test_an_ask_that_is_repeated_takes_no_second_slot(ledger: Ledger, redis_client: redis.Redis) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1))
    (lease,) = jobs(ledger, 1)
    line.fly(lease)

    _, (again,) = line.ask(lease, at_ms=900)

    assert (again.verdict, again.in_flight) == ("go", 1)
    assert in_flight(redis_client) == 1
    assert redis_client.hget(names.pace_key(ACCOUNT), "sent") == b"1"


def test_a_job_that_was_lost_gets_no_slot_and_others_do(ledger: Ledger, redis_client: redis.Redis) -> None:
    lost, fine = jobs(ledger, 2)
    ledger.release(lost)

    assert Line(ledger).verdicts(lost, fine) == ["lost", "go"]
    assert in_flight(redis_client) == 1


def test_calls_of_a_new_account_leave_one_by_one(ledger: Ledger, line: Line) -> None:
    first, second = jobs(ledger, 2)

    pace, permits = line.ask(first, second)

    assert [permit.verdict for permit in permits] == ["go", "wait"]
    assert (pace.reason, pace.wait_ms) == ("spacing", 5)
    assert line.verdicts(second, at_ms=5) == ["go"]


def test_what_is_known_of_the_rate_ends_the_spacing(ledger: Ledger, line: Line) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=50))

    assert line.verdicts(*jobs(ledger, 6)) == ["go"] * 5 + ["wait"]


def test_rate_limited_calls_that_the_api_does_not_count_leave_room_until_they_leave_the_window(
    ledger: Ledger, line: Line
) -> None:
    uncounted = replace(KNOWN, in_flight=None, start=50, uncounted=2, uncounted_until_ms=START_MS + 1_000)
    ledger.store_estimate(ACCOUNT, 0, uncounted)

    assert line.verdicts(*jobs(ledger, 8)) == ["go"] * 7 + ["wait"]
    assert line.verdicts(*jobs(ledger, 1), at_ms=1_000) == ["wait"]


@pytest.mark.parametrize(("age_ms", "is_known"), [(0, True), (130_000, False)])
def test_a_429_tells_when_the_first_call_of_a_new_account_was_sent(
    ledger: Ledger, line: Line, age_ms: int, is_known: bool
) -> None:
    (older,) = jobs(ledger, 1)
    (permit,) = line.fly(older)
    line.ask(released=[released(older, permit)], at_ms=100)
    (last,) = jobs(ledger, 1)
    _, (permit,) = line.ask(last, at_ms=200 + age_ms)

    _, _, seen = ledger.record_rate_limit(ACCOUNT, call_name(last), permit, MINUTE, now_ms=START_MS + 300 + age_ms)

    assert seen.first_ms == (START_MS if is_known else 0)


def test_more_than_a_thousand_calls_are_counted_without_a_hole(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(rate=1_500, window_ms=60_000, in_flight=5_000))
    ledger.store_estimate(ACCOUNT, 0, Estimate(rate=Limit(100_000, 1_000, START_MS), start=5_000))
    for index in range(0, 1_500, 50):
        assert line.verdicts(*jobs(ledger, 50), at_ms=index) == ["go"] * 50
    (last,) = jobs(ledger, 1)

    pace, _ = line.ask(last, at_ms=2_000)

    # Places come free as the calls left, a bucket of calls at a time.
    assert (pace.reason, pace.wait_ms) == ("configured", 58_000)
    assert line.verdicts(last, at_ms=59_999) == ["wait"]
    assert line.verdicts(last, at_ms=60_000) == ["go"]


def test_of_calls_long_ago_tenths_of_a_second_are_kept_and_none_is_forgotten(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    line = Line(ledger)
    ledger.store_estimate(ACCOUNT, 0, Estimate(rate=Limit(100_000, 20_000, START_MS)))
    (lease,) = jobs(ledger, 1)
    for at_ms in range(0, 15_000, 10):
        line.ask(lease, at_ms=at_ms, released=[released(lease)])

    assert redis_client.zcard(names.sent_key(ACCOUNT)) <= 1_000 + 5_000 / 100 + 1
    counted = {}
    for at_ms in (15_000, 25_000):
        _, (permit,) = line.ask(lease, at_ms=at_ms, released=[released(lease)])
        counted[at_ms] = permit.in_window
    assert counted[15_000] == 1_500
    # A bucket at the window's edge is counted whole.
    assert 1_000 <= counted[25_000] <= 1_000 + 100 / 10


def test_of_few_calls_each_is_kept_however_long_ago(ledger: Ledger, line: Line, redis_client: redis.Redis) -> None:
    (lease,) = jobs(ledger, 1)
    for at_ms in range(0, 100_000, 1_000):
        line.ask(lease, at_ms=at_ms, released=[released(lease)])

    assert redis_client.zcard(names.sent_key(ACCOUNT)) == 100


# --- ceilings ---


def test_without_anything_known_two_calls_leave(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits())
    first, second, third = jobs(ledger, 3)
    line.fly(first, second)

    pace, _ = line.ask(third, at_ms=50)

    assert (pace.reason, pace.wait_ms) == ("in_flight", AGAIN_MS)


@pytest.mark.parametrize(
    ("configured", "most", "reason"), [(2, 2, "configured"), (0, 3, "in_flight"), (9, 3, "in_flight")]
)
def test_of_what_is_configured_and_what_is_learned_the_lower_one_holds(
    ledger: Ledger, configured: int, most: int, reason: str
) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, rate=None))
    line = Line(ledger, configured=ConfiguredLimits(in_flight=configured))
    *leases, last = jobs(ledger, most + 1)
    line.fly(*leases)

    pace, (permit,) = line.ask(last, at_ms=50)

    assert (permit.verdict, pace.reason) == ("wait", reason)


@pytest.mark.parametrize(("configured", "most", "reason"), [(2, 2, "configured"), (9, 5, "rate"), (5, 5, "rate")])
def test_of_two_rates_the_one_that_is_full_holds(ledger: Ledger, configured: int, most: int, reason: str) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=50))
    line = Line(ledger, configured=ConfiguredLimits(rate=configured, window_ms=60_250, in_flight=1000))

    pace, permits = line.ask(*jobs(ledger, 10))

    assert [permit.verdict for permit in permits].count("go") == most
    assert (pace.reason, pace.wait_ms) == (reason, 60_250)


def test_a_look_lets_one_more_through(ledger: Ledger, line: Line) -> None:
    looking = replace(KNOWN, in_flight=None, start=50, rate=Limit(5, 60_000, START_MS, step=1))
    ledger.store_estimate(ACCOUNT, 0, looking)

    assert line.verdicts(*jobs(ledger, 8)).count("go") == 6


def test_what_was_seen_since_the_estimate_restarts_with_the_next_one(ledger: Ledger, line: Line) -> None:
    version = ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, start=50, in_flight=None))
    leases = jobs(ledger, 3)
    _, permits = line.ask(*leases)
    # Out for long enough that a 429 would have come.
    line.ask(released=[released(lease, permit) for lease, permit in zip(leases, permits, strict=True)], at_ms=500)

    pace, _ = line.ask(*jobs(ledger, 1), at_ms=700)
    assert (pace.version, pace.peak_in_flight, pace.peak_sent, pace.quiet_ms) == (version, 3, 2, 0)
    assert pace.at_ceiling == 0

    ledger.store_estimate(ACCOUNT, version, KNOWN)
    pace, _ = line.ask(at_ms=800)
    assert (pace.at_ceiling, pace.peak_in_flight, pace.peak_sent, pace.quiet_ms) == (0, 0, 0, 100)


def test_while_none_has_come_back_calls_take_at_least_as_long_as_the_first_is_out(ledger: Ledger, line: Line) -> None:
    leases = jobs(ledger, 3)
    permits = line.fly(*leases)

    _, _, seen = ledger.record_rate_limit(ACCOUNT, call_name(leases[2]), permits[2], MINUTE, now_ms=START_MS + 410)

    # Calls that leave within 10 ms are noted together, at the last one's time.
    assert 400 <= seen.call_ms <= 410


def test_how_long_calls_take_is_told_with_a_429(ledger: Ledger, line: Line) -> None:
    leases = jobs(ledger, 3)
    permits = line.fly(*leases)
    for lease, permit, at_ms in zip(leases[:2], permits, (1_000, 1_805), strict=False):
        line.ask(released=[released(lease, permit)], at_ms=at_ms)

    _, _, seen = ledger.record_rate_limit(ACCOUNT, call_name(leases[2]), permits[2], MINUTE, now_ms=START_MS + 2_000)

    # The first took 1 s, and the second 1.8 s: a running mean over eight.
    assert seen.call_ms == 1_100


def test_calls_that_took_the_last_place_and_were_let_in_are_counted(ledger: Ledger, line: Line) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, rate=None))
    leases = jobs(ledger, 3)
    permits = line.fly(*leases)
    line.ask(released=[released(lease, permit) for lease, permit in zip(leases, permits, strict=True)], at_ms=500)

    assert line.ask(at_ms=510)[0].at_ceiling == 1


def test_when_calls_last_waited_for_the_rate_is_told(ledger: Ledger, line: Line) -> None:
    ledger.store_estimate(ACCOUNT, 0, replace(KNOWN, in_flight=None, start=50))
    line.ask(*jobs(ledger, 6))

    assert line.ask(at_ms=1_234)[0].rate_bound_ms == 1_234


# --- leases of calls ---


def test_a_crashed_processs_slot_is_free_when_its_lease_has_expired(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1))
    dead, waiting = jobs(ledger, 2)
    line.ask(dead, call_lease=timedelta(seconds=4))

    assert line.verdicts(waiting, at_ms=3_999) == ["wait"]
    assert line.verdicts(waiting, at_ms=4_000) == ["go"]


def test_a_call_whose_permit_is_renewed_keeps_its_slot_and_one_that_was_released_takes_none(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    line = Line(ledger)
    kept, back = jobs(ledger, 2)
    line.fly(kept, back)
    ledger.release_permits(ACCOUNT, [released(back)])

    ledger.renew_permits(ACCOUNT, [call_name(kept), call_name(back), "nobody:1"], LONG)

    assert redis_client.zrange(names.in_flight_key(ACCOUNT), 0, -1) == [call_name(kept).encode()]
    end_ms = redis_client.zscore(names.in_flight_key(ACCOUNT), call_name(kept))
    assert end_ms is not None
    # By the server's clock, which is far beyond the tests' own.
    assert end_ms > START_MS + 3_600_000


def test_a_lease_that_is_kept_no_more_passes(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1))
    dead, waiting = jobs(ledger, 2)
    line.fly(dead)
    ledger.renew_permits(ACCOUNT, [call_name(dead)], PASSED)

    _, (permit,) = ledger.acquire_permits(
        ACCOUNT,
        line.name,
        [(waiting, 0)],
        configured=line.configured,
        call_lease=LONG,
        probe_lease=LONG,
        ask_again=MINUTE,
    )
    assert permit.verdict == "go"


# --- the circuit breaker ---


def test_behind_an_open_breaker_nobody_leaves_and_all_are_told_for_how_long(ledger: Ledger, line: Line) -> None:
    leases = jobs(ledger, 3)
    assert ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS) == MINUTE

    pace, permits = line.ask(*leases, at_ms=1_000)

    assert {permit.verdict for permit in permits} == {"wait"}
    assert (pace.reason, pace.wait_ms) == ("breaker", 59_000)


def test_of_several_waits_the_longest_holds(ledger: Ledger) -> None:
    assert ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS) == MINUTE
    assert ledger.open_breaker(ACCOUNT, MINUTE / 2, now_ms=START_MS + 10_000) == timedelta(seconds=50)
    assert ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS + 10_000) == MINUTE


def test_after_the_wait_one_probe_goes_first_and_its_answer_lets_the_rest_go(ledger: Ledger, line: Line) -> None:
    first, *rest = jobs(ledger, 4)
    ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS)

    pace, permits = line.ask(first, *rest, at_ms=60_000)
    assert [permit.verdict for permit in permits] == ["probe", "wait", "wait", "wait"]
    assert (pace.reason, pace.wait_ms) == ("probe", AGAIN_MS)
    other = Line(ledger, "another process")
    assert other.verdicts(*jobs(ledger, 1), at_ms=60_100) == ["wait"]

    assert ledger.release_permits(ACCOUNT, [released(first, permits[0])]) is True
    for index, lease in enumerate(rest):
        assert "go" in line.verdicts(lease, at_ms=61_000 + 10 * index)


def test_the_answer_of_another_call_does_not_close_the_breaker(ledger: Ledger, line: Line) -> None:
    early, probe, waiting = jobs(ledger, 3)
    (permit,) = line.fly(early)
    ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS + 10)
    assert line.verdicts(probe, at_ms=60_010) == ["probe"]

    assert ledger.release_permits(ACCOUNT, [released(early, permit)]) is False
    assert line.verdicts(waiting, at_ms=60_020) == ["wait"]


def test_a_probe_that_asks_again_is_the_probe_still(ledger: Ledger, line: Line) -> None:
    (probe,) = jobs(ledger, 1)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)

    assert line.verdicts(probe) == ["probe"]
    assert line.verdicts(probe, at_ms=100) == ["probe"]


def test_when_the_probe_is_lost_the_next_call_is_the_probe(ledger: Ledger, line: Line) -> None:
    probe, second, third = jobs(ledger, 3)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)
    assert line.verdicts(probe, second) == ["probe", "wait"]

    assert ledger.abandon_permit(ACCOUNT, second.job_id, second.epoch) is False
    assert line.verdicts(second, at_ms=10) == ["wait"]
    assert ledger.abandon_permit(ACCOUNT, probe.job_id, probe.epoch) is True
    assert ledger.abandon_permit(ACCOUNT, probe.job_id, probe.epoch) is False
    assert line.verdicts(second, third, at_ms=20) == ["probe", "wait"]


def test_only_the_call_that_is_named_is_abandoned(ledger: Ledger, line: Line, redis_client: redis.Redis) -> None:
    (probe,) = jobs(ledger, 1)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)
    assert line.verdicts(probe) == ["probe"]

    assert ledger.abandon_permit(ACCOUNT, probe.job_id, probe.epoch + 1) is False
    assert in_flight(redis_client) == 1
    assert ledger.abandon_permit(ACCOUNT, probe.job_id, probe.epoch) is True
    assert in_flight(redis_client) == 0


def test_a_probe_whose_process_died_is_followed_by_another_when_its_lease_has_passed(
    ledger: Ledger, line: Line
) -> None:
    probe, second = jobs(ledger, 2)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)
    line.ask(probe, probe_lease=timedelta(seconds=9))

    assert line.verdicts(second, at_ms=8_999) == ["wait"]
    assert line.verdicts(second, at_ms=9_000) == ["probe"]


def test_a_call_that_was_held_up_may_go_unless_the_breaker_was_opened_meanwhile(ledger: Ledger, line: Line) -> None:
    first, second, probe = jobs(ledger, 3)
    line.fly(first, second)
    assert confirmed(ledger, second) == "go"

    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS + 20)
    assert confirmed(ledger, second) == "wait"

    assert line.verdicts(probe, at_ms=30) == ["probe"]
    assert confirmed(ledger, probe) == "go"
    assert confirmed(ledger, first) == "wait"


def test_a_probe_that_is_rate_limited_opens_the_breaker_for_the_next_one(ledger: Ledger, line: Line) -> None:
    probe, second = jobs(ledger, 2)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)
    _, (permit,) = line.ask(probe)
    ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS + 10)
    ledger.record_rate_limit(ACCOUNT, call_name(probe), permit, MINUTE, now_ms=START_MS + 10)

    assert line.verdicts(second, at_ms=60_009) == ["wait"]
    assert line.verdicts(second, at_ms=60_010) == ["probe"]


# --- turns ---


def listening(client: redis.Redis, wake_ups: WakeUps, process: str) -> None:
    """The server knows that somebody listens, and has called out nothing yet."""
    channel = names.wake_channel(ACCOUNT, process)
    assert wake_ups.wait(PASSED) is False
    wait_until("somebody listens", lambda: client.pubsub_numsub(channel) == [(channel.encode(), 1)])


def turns_of(first: Line, second: Line, rounds: int, behind: int = 0) -> list[str]:
    """One place, and two processes that want it all the time; who got it, round by round.

    `behind`: jobs that wait in each process behind the one that wants it.
    """
    waiting = {line.name: running(line.ledger) for line in (first, second)}
    unrelated = {line.name: jobs(line.ledger, behind) for line in (first, second)}
    served: list[str] = []
    back: list[ReleasedPermit] = []
    for index in range(rounds):
        for asking in (first, second):
            lease = waiting[asking.name]
            _, (permit, *_) = asking.ask(lease, *unrelated[asking.name], at_ms=10 * index, released=back)
            back = []
            if permit.verdict == "go":
                served.append(asking.name)
                back = [released(lease, permit)]
                waiting[asking.name] = running(asking.ledger)
    return served


def test_processes_take_turns_though_one_always_asks_first(ledger: Ledger) -> None:
    configured = ConfiguredLimits(in_flight=1)
    served = turns_of(Line(ledger, "one", configured), Line(ledger, "two", configured), 40)

    assert len(served) >= 30
    assert min(served.count("one"), served.count("two")) >= len(served) / 4


def test_of_two_that_wait_the_one_that_was_served_less_goes_first(ledger: Ledger) -> None:
    configured = ConfiguredLimits(in_flight=2)
    busy, fresh = Line(ledger, "busy", configured), Line(ledger, "fresh", configured)
    first, second, third, fourth = jobs(ledger, 4)
    busy.fly(first, second)
    assert busy.verdicts(third, at_ms=50) == ["wait"]
    assert fresh.verdicts(fourth, at_ms=60) == ["wait"]

    pace, (permit,) = busy.ask(third, at_ms=70, released=[released(first), released(second)])
    assert permit.verdict == "go"
    # That was one more than the other had: the place that is left is the other's.
    (fifth,) = jobs(ledger, 1)
    pace, (permit,) = busy.ask(fifth, at_ms=80)
    assert (permit.verdict, pace.reason) == ("wait", "turn")
    assert fresh.verdicts(fourth, at_ms=90) == ["go"]


def test_who_was_served_less_is_left_all_the_places_that_it_is_behind(ledger: Ledger) -> None:
    configured = ConfiguredLimits(rate=10, window_ms=6_000)
    first, other = Line(ledger, "first", configured), Line(ledger, "other", configured)
    ledger.store_estimate(ACCOUNT, 0, Estimate(rate=Limit(10, 6_000, START_MS), start=50))
    # Both wait, and one of them had all of this window.
    first.ask(*jobs(ledger, 10))
    assert other.verdicts(*jobs(ledger, 9), at_ms=10) == ["wait"] * 9
    assert first.verdicts(*jobs(ledger, 9), at_ms=20) == ["wait"] * 9

    # Of the next one it gets half, though it asks first.
    assert first.verdicts(*jobs(ledger, 9), at_ms=6_000).count("go") == 5
    assert other.verdicts(*jobs(ledger, 9), at_ms=6_010).count("go") == 5


@pytest.mark.parametrize("order", ["files ask first", "single jobs ask first"])
def test_where_calls_count_for_a_quarter_they_have_four_turns_for_one(order: str, ledger: Ledger) -> None:
    configured = ConfiguredLimits(in_flight=1)
    files, singles = Line(ledger, "files", configured), Line(ledger, "singles", configured, weight=1 / 4)
    both = (files, singles) if order == "files ask first" else (singles, files)
    served = turns_of(*both, 100, behind=1)

    assert len(served) >= 75
    assert 0.7 <= served.count("singles") / len(served) <= 0.85


def test_where_calls_count_for_less_who_comes_anew_is_the_next(ledger: Ledger) -> None:
    configured = ConfiguredLimits(in_flight=1)
    lines = [Line(ledger, "one", configured), Line(ledger, "two", configured)]
    served = turns_of(lines[0], lines[1], 10)
    assert {"one", "two"} == set(served)
    first, second = (running(ledger) for _ in lines)
    in_flight = lines[0].fly(first, at_ms=60_000)
    for line in lines:
        assert line.verdicts(second, at_ms=60_010) == ["wait"]

    (single,) = jobs(ledger, 1)
    assert Line(ledger, "singles", configured, weight=1 / 4).verdicts(single, at_ms=60_020) == ["wait"]
    for line in lines:
        pace, (permit,) = line.ask(second, at_ms=60_030, released=[released(first, in_flight[0])])
        assert (permit.verdict, pace.reason) == ("wait", "turn")


def test_a_process_that_crashed_loses_its_turn(ledger: Ledger) -> None:
    configured = ConfiguredLimits(in_flight=1)
    alive, dead = Line(ledger, "alive", configured), Line(ledger, "dead", configured)
    first, second, third = jobs(ledger, 3)
    alive.fly(first)
    assert dead.verdicts(second, at_ms=10) == ["wait"]
    assert alive.verdicts(third, at_ms=20) == ["wait"]
    alive.ask(released=[released(first)], at_ms=30)

    assert alive.verdicts(third, at_ms=10 + AGAIN_MS + 500) == ["go"]


def test_places_that_are_left_are_called_out_to_those_who_wait_elsewhere(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    configured = ConfiguredLimits(in_flight=1)
    one, other = Line(ledger, "one", configured), Line(ledger, "other", configured)
    first, second = jobs(ledger, 2)
    one.fly(first)
    wake_ups = ledger.wake_ups(ACCOUNT, "other")
    try:
        listening(redis_client, wake_ups, "other")
        assert other.verdicts(second, at_ms=10) == ["wait"]

        one.ask(released=[released(first)], at_ms=20)

        wait_until("it is called", lambda: wake_ups.wait(SHORT))
    finally:
        wake_ups.close()


def test_a_closed_breaker_is_called_out_to_all_who_wait(ledger: Ledger, redis_client: redis.Redis) -> None:
    one, other = Line(ledger, "one"), Line(ledger, "other")
    probe, second = jobs(ledger, 2)
    ledger.open_breaker(ACCOUNT, PASSED, now_ms=START_MS)
    wake_ups = ledger.wake_ups(ACCOUNT, "other")
    try:
        listening(redis_client, wake_ups, "other")
        _, (permit,) = one.ask(probe)
        assert other.verdicts(second, at_ms=10) == ["wait"]

        ledger.release_permits(ACCOUNT, [released(probe, permit)])

        wait_until("it is called", lambda: wake_ups.wait(SHORT))
    finally:
        wake_ups.close()


# --- tokens ---


def test_tokens_are_estimated_before_a_call_and_settled_after_it(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1000, tokens=1_000, tokens_window_ms=60_000))
    first, second, third, fourth = jobs(ledger, 4)
    _, (permit,) = line.ask(first, tokens=600)
    pace, _ = line.ask(second, at_ms=10, tokens=600)
    assert (pace.reason, pace.wait_ms) == ("tokens", 59_990)

    # It has used 100 of its 600: 500 are left beside the next one's 500 at most.
    line.ask(released=[released(first, permit, tokens=-500)], at_ms=20)

    assert line.verdicts(second, at_ms=30, tokens=901) == ["wait"]
    assert line.verdicts(second, at_ms=30, tokens=900) == ["go"]
    assert line.verdicts(third, at_ms=59_999, tokens=1) == ["wait"]
    # The first call's leave the window, the second's are still in it.
    assert line.verdicts(third, at_ms=60_000, tokens=101) == ["wait"]
    assert line.verdicts(third, at_ms=60_000, tokens=100) == ["go"]
    assert line.verdicts(fourth, at_ms=60_010, tokens=1) == ["wait"]


def test_a_call_that_used_more_than_was_thought_holds_back_the_next(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1000, tokens=1_000, tokens_window_ms=60_000))
    first, second = jobs(ledger, 2)
    _, (permit,) = line.ask(first, tokens=100)
    line.ask(released=[released(first, permit, tokens=850)], at_ms=20)

    assert line.verdicts(second, at_ms=30, tokens=51) == ["wait"]
    assert line.verdicts(second, at_ms=30, tokens=50) == ["go"]


def test_a_call_of_more_tokens_than_the_window_holds_waits_until_it_is_empty(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1000, tokens=1_000, tokens_window_ms=60_000))
    small, large = jobs(ledger, 2)
    line.ask(small, tokens=1)

    assert line.verdicts(large, at_ms=59_999, tokens=5_000) == ["wait"]
    assert line.verdicts(large, at_ms=60_000, tokens=5_000) == ["go"]


def test_an_absurd_number_of_tokens_does_not_end_the_counting(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits(in_flight=1000, tokens=1_000, tokens_window_ms=60_000))
    first, second = jobs(ledger, 2)
    _, (permit,) = line.ask(first, tokens=10)
    line.ask(released=[released(first, permit, tokens=10**19)], at_ms=10)
    _, (permit,) = line.ask(second, at_ms=60_010, tokens=10)

    line.ask(released=[released(second, permit, tokens=-3)], at_ms=60_020)


# --- what headers say ---


def test_no_more_calls_leave_than_a_header_has_left(ledger: Ledger, line: Line) -> None:
    ledger.store_estimate(ACCOUNT, 0, Estimate(rate=Limit(1_000, 60_000, START_MS), start=50))
    first, second, *rest = jobs(ledger, 6)
    _, (permit, _) = line.ask(first, second)

    # Three were left when the first was answered; the second may not have arrived by then.
    pace, permits = line.ask(*rest, released=[released(first, permit, remaining=3, remaining_ms=9_000)], at_ms=100)

    assert [one.verdict for one in permits] == ["go", "go", "wait", "wait"]
    assert (pace.reason, pace.wait_ms) == ("header", 9_000)
    assert line.verdicts(*rest[2:], at_ms=9_100) == ["go", "go"]


def test_no_call_left_means_none_until_the_reset(ledger: Ledger, line: Line) -> None:
    first, second = jobs(ledger, 2)
    (permit,) = line.fly(first)
    line.ask(released=[released(first, permit, remaining=0, remaining_ms=5_000)], at_ms=100)

    assert line.verdicts(second, at_ms=5_099) == ["wait"]
    assert line.verdicts(second, at_ms=5_100) == ["go"]


# --- faults ---


def faulted(ledger: Ledger, lease: Lease, permit: Permit, at_ms: int = 0) -> FaultStreak:
    return ledger.record_fault(ACCOUNT, lease, permit, START_MS + at_ms)


def test_many_jobs_that_meet_a_fault_are_counted_with_what_is_out(ledger: Ledger, line: Line) -> None:
    leases = jobs(ledger, 4)
    permits = line.fly(*leases)

    rows = [faulted(ledger, lease, permit) for lease, permit in zip(leases, permits, strict=True)]

    assert rows == [FaultStreak(jobs, 5 - jobs, 0, False, False) for jobs in (1, 2, 3, 4)]


def test_one_sick_job_is_a_row_of_one_however_often_it_fails(ledger: Ledger, line: Line) -> None:
    (sick,) = jobs(ledger, 1)

    for index in range(5):
        (permit,) = line.fly(sick, at_ms=100 * index)
        assert faulted(ledger, sick, permit).jobs == 1


def test_an_answer_settles_the_faults_from_before_its_call_started(ledger: Ledger, line: Line) -> None:
    first, second, older, newer, last = jobs(ledger, 5)
    *permits, older_permit, last_permit = line.fly(first, second, older, last)
    faulted(ledger, first, permits[0], at_ms=50)
    faulted(ledger, second, permits[1], at_ms=60)
    (newer_permit,) = line.fly(newer, at_ms=70)

    ledger.release_permits(ACCOUNT, [released(older, older_permit)])
    assert faulted(ledger, last, last_permit, at_ms=80).jobs == 3

    ledger.release_permits(ACCOUNT, [released(newer, newer_permit)])
    assert faulted(ledger, last, last_permit, at_ms=90).jobs == 1


def test_a_fault_is_the_jobs_own_when_a_call_is_answered_that_started_after_it(ledger: Ledger, line: Line) -> None:
    sick, other = jobs(ledger, 2)
    (first,) = line.fly(sick)
    assert not faulted(ledger, sick, first, at_ms=10).is_own
    (permit,) = line.fly(other, at_ms=20)
    # A later fault of the same job does not hide that the earlier one was its own.
    (second,) = line.fly(sick, at_ms=30)
    assert not faulted(ledger, sick, second, at_ms=40).is_own
    ledger.release_permits(ACCOUNT, [released(other, permit)])

    (third,) = line.fly(sick, at_ms=50)
    assert faulted(ledger, sick, third, at_ms=60).is_own
    (fourth,) = line.fly(sick, at_ms=70)
    assert not faulted(ledger, sick, fourth, at_ms=80).is_own


def make_sick(ledger: Ledger, line: Line, sick: Lease, other: Lease) -> None:
    """Let a job have faults before and after another job's call that is answered."""
    (first,) = line.fly(sick, at_ms=0)
    faulted(ledger, sick, first, at_ms=10)
    (permit,) = line.fly(other, at_ms=20)
    ledger.release_permits(ACCOUNT, [released(other, permit)])
    (second,) = line.fly(sick, at_ms=40)
    assert faulted(ledger, sick, second, at_ms=50).is_own


def test_faults_of_a_sick_job_do_not_count_for_others_but_theirs_count_for_it(ledger: Ledger, line: Line) -> None:
    sick, other, answered = jobs(ledger, 3)
    make_sick(ledger, line, sick, answered)
    sick_permit, permit = line.fly(sick, other, at_ms=100)

    assert faulted(ledger, sick, sick_permit, at_ms=110).jobs == 0
    assert faulted(ledger, other, permit, at_ms=120).jobs == 1
    assert faulted(ledger, sick, sick_permit, at_ms=130).jobs == 1


def test_a_sick_job_that_probes_alone_closes_the_breaker(ledger: Ledger, line: Line) -> None:
    sick, other, answered = jobs(ledger, 3)
    make_sick(ledger, line, sick, answered)
    ledger.open_breaker(ACCOUNT, PASSED, "faults", now_ms=START_MS + 100)
    _, (permit,) = line.ask(sick, at_ms=120)
    assert permit.verdict == "probe"

    assert faulted(ledger, sick, permit, at_ms=130).closed_breaker
    assert line.verdicts(other, at_ms=140) == ["go"]


@given(st.lists(st.tuples(st.sampled_from(["start", "answer", "fault"]), st.integers(0, 5)), max_size=40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_jobs_count_whose_fault_no_answered_call_has_followed(
    ledger: Ledger, redis_client: redis.Redis, steps: list[tuple[str, int]]
) -> None:
    """Compare with the definition, for six jobs whose calls start and end in any order."""
    redis_client.delete(*(key(ACCOUNT) for key in KEYS))
    leases = jobs(ledger, 6)
    started: dict[int, int] = {}
    faults: dict[int, list[int]] = {number: [] for number in range(6)}
    sick: set[int] = set()
    answered = 0
    for at_ms, (step, number) in enumerate(steps, START_MS):
        if step == "start":
            started.setdefault(number, at_ms)
        elif number in started:
            permit = Permit("go", at_ms=started.pop(number))
            if step == "answer":
                ledger.release_permits(ACCOUNT, [released(leases[number], permit)])
                answered = max(answered, permit.at_ms)
                continue
            streak = ledger.record_fault(ACCOUNT, leases[number], permit, at_ms)
            is_own = bool(faults[number]) and faults[number][0] < answered
            faults[number] = [at_ms] if is_own else [*faults[number], at_ms]
            sick |= {number} if is_own else set()
            assert streak.is_own is is_own
            assert streak.jobs == sum(
                bool(each) and each[0] > answered for job, each in faults.items() if job not in sick
            )


def test_an_outage_lasts_from_the_first_opening_for_faults_until_a_probe_is_answered(
    ledger: Ledger, line: Line
) -> None:
    first, second, third, last = jobs(ledger, 4)
    ledger.open_breaker(ACCOUNT, PASSED, "faults", now_ms=START_MS)
    _, (permit,) = line.ask(first, at_ms=10)
    assert permit.verdict == "probe"
    assert faulted(ledger, first, permit, at_ms=15) == FaultStreak(1, 1, 15, True, False)
    ledger.open_breaker(ACCOUNT, PASSED, "faults", now_ms=START_MS + 20)
    _, (permit,) = line.ask(second, at_ms=30)
    assert faulted(ledger, second, permit, at_ms=35) == FaultStreak(2, 1, 35, True, False)
    ledger.open_breaker(ACCOUNT, PASSED, "faults", now_ms=START_MS + 40)

    _, (permit,) = line.ask(third, at_ms=50)
    assert ledger.release_permits(ACCOUNT, [released(third, permit)]) is True

    (permit,) = line.fly(last, at_ms=60)
    assert faulted(ledger, last, permit, at_ms=65) == FaultStreak(1, 1, 0, False, False)


def test_a_call_that_left_before_the_breaker_opened_is_old_news(ledger: Ledger, line: Line) -> None:
    early, late = jobs(ledger, 2)
    early_permit, late_permit = line.fly(early, late)
    ledger.open_breaker(ACCOUNT, MINUTE, "faults", now_ms=early_permit.at_ms)

    assert faulted(ledger, early, early_permit).is_old is True
    assert faulted(ledger, late, late_permit).is_old is False


def test_a_limits_probe_with_a_fault_was_not_rate_limited_and_closes_the_breaker(ledger: Ledger, line: Line) -> None:
    probe, second = jobs(ledger, 2)
    ledger.open_breaker(ACCOUNT, PASSED, "limit", now_ms=START_MS)
    _, (permit,) = line.ask(probe, at_ms=10)
    assert permit.verdict == "probe"

    row = faulted(ledger, probe, permit)
    assert (row.was_probe, row.closed_breaker) == (False, True)
    assert line.verdicts(second, at_ms=20) == ["go"]
    assert ledger.pace_view(ACCOUNT).breaker == ""


# --- estimates ---


def test_nothing_is_estimated_for_an_account_that_was_never_used(ledger: Ledger) -> None:
    assert ledger.estimate(ACCOUNT) == (0, Estimate())
    assert ledger.accounts() == []
    view = ledger.pace_view(ACCOUNT)
    assert (view.estimate, view.breaker, view.open_for, view.in_flight, view.waiting) == (Estimate(), "", PASSED, 0, 0)


def test_of_two_that_learn_at_once_the_second_reads_again(ledger: Ledger) -> None:
    first = ledger.store_estimate(ACCOUNT, 0, KNOWN)
    assert first > 0
    assert ledger.estimate(ACCOUNT) == (first, KNOWN)

    assert ledger.store_estimate(ACCOUNT, 0, Estimate()) == 0
    assert ledger.estimate(ACCOUNT) == (first, KNOWN)
    assert ledger.store_estimate(ACCOUNT, first, replace(KNOWN, rate=None)) == first + 1
    assert ledger.store_estimate(ACCOUNT, first, KNOWN) == 0
    assert ledger.estimate(ACCOUNT)[1].rate is None


def test_a_version_does_not_come_again_when_the_key_was_away(ledger: Ledger, redis_client: redis.Redis) -> None:
    before = now_ms(redis_client) // 1000 * 1000
    version = ledger.store_estimate(ACCOUNT, 0, KNOWN)

    assert version >= before
    assert ledger.store_estimate(ACCOUNT, version, Estimate()) == version + 1


def test_what_a_429_finds_comes_with_the_estimate(ledger: Ledger, line: Line) -> None:
    version = ledger.store_estimate(ACCOUNT, 0, KNOWN)
    (lease,) = jobs(ledger, 1)
    (permit,) = line.fly(lease)

    assert ledger.record_rate_limit(ACCOUNT, call_name(lease), permit, MINUTE, now_ms=START_MS + 10)[:2] == (
        version,
        KNOWN,
    )


def test_forgotten_limits_hold_nobody_back_and_whoever_learns_reads_again(ledger: Ledger) -> None:
    line = Line(ledger, configured=ConfiguredLimits())
    version = ledger.store_estimate(
        ACCOUNT, 0, Estimate(in_flight=Limit(1, 5_000, START_MS), rate=Limit(1, 60_000, START_MS))
    )
    first, second = jobs(ledger, 2)
    assert line.verdicts(first, second) == ["go", "wait"]

    ledger.forget_account(ACCOUNT)

    assert ledger.estimate(ACCOUNT) == (version + 1, Estimate())
    assert ledger.store_estimate(ACCOUNT, version, KNOWN) == 0
    assert line.verdicts(second, at_ms=100) == ["go"]


def test_a_breaker_that_is_open_outlives_forgetting(ledger: Ledger, line: Line) -> None:
    ledger.open_breaker(ACCOUNT, MINUTE, now_ms=START_MS)

    ledger.forget_account(ACCOUNT)

    assert line.verdicts(*jobs(ledger, 1), at_ms=59_999) == ["wait"]


def test_people_see_the_breaker_the_calls_in_flight_and_who_waits(ledger: Ledger) -> None:
    ledger.report_alive(ACCOUNT, "https://api.example/v1", MINUTE)
    configured = ConfiguredLimits(in_flight=1)
    first, second = jobs(ledger, 2)
    for name, lease in (("one", first), ("two", second)):
        ledger.acquire_permits(
            ACCOUNT, name, [(lease, 0)], configured=configured, call_lease=LONG, probe_lease=LONG, ask_again=LONG
        )
    ledger.open_breaker(ACCOUNT, LONG)

    view = ledger.pace_view(ACCOUNT)

    assert ledger.accounts() == [ACCOUNT]
    assert (view.account, view.base, view.breaker) == (ACCOUNT, "https://api.example/v1", "limit")
    assert PASSED < view.open_for <= LONG
    assert PASSED < ledger.pace_view(ACCOUNT).open_for <= LONG
    assert (view.in_flight, view.waiting) == (1, 1)


# --- ends ---


def without_end(client: redis.Redis) -> list[str]:
    """Keys of the account that would live for ever."""
    return [name for key in KEYS if client.ttl(name := key(ACCOUNT)) == -1]


def test_every_key_of_an_account_has_an_end(ledger: Ledger, redis_client: redis.Redis) -> None:
    line = Line(
        ledger, configured=ConfiguredLimits(rate=9, window_ms=60_000, in_flight=2, tokens=900, tokens_window_ms=60_000)
    )
    first, second, third = jobs(ledger, 3)
    _, (permit,) = line.ask(first, tokens=10)
    line.ask(second, third, at_ms=5, tokens=10)
    ledger.renew_permits(ACCOUNT, [call_name(first)], LONG)
    ledger.record_fault(ACCOUNT, first, permit)
    ledger.report_alive(ACCOUNT, "https://api.example/v1", MINUTE)
    ledger.store_estimate(ACCOUNT, 0, KNOWN)
    ledger.open_breaker(ACCOUNT, MINUTE)
    ledger.forget_account(ACCOUNT)

    assert [key(ACCOUNT) for key in KEYS if not redis_client.exists(key(ACCOUNT))] == []
    assert without_end(redis_client) == []
    assert redis_client.ttl(names.pace_key(ACCOUNT)) <= 7 * 86_400 + 60


@pytest.mark.parametrize(
    "act",
    [
        lambda ledger, lease: ledger.open_breaker(ACCOUNT, MINUTE),
        lambda ledger, lease: ledger.store_estimate(ACCOUNT, 0, KNOWN),
        lambda ledger, lease: ledger.report_alive(ACCOUNT, "https://api.example/v1", MINUTE),
        lambda ledger, lease: ledger.abandon_permit(ACCOUNT, lease.job_id, lease.epoch),
        lambda ledger, lease: ledger.renew_permits(ACCOUNT, [call_name(lease)], LONG),
        lambda ledger, lease: ledger.release_permits(ACCOUNT, [released(lease)]),
        lambda ledger, lease: ledger.record_fault(ACCOUNT, lease, Permit("go")),
        lambda ledger, lease: ledger.record_rate_limit(ACCOUNT, call_name(lease), Permit("go", at_ms=START_MS), MINUTE),
        lambda ledger, lease: ledger.release_permits(ACCOUNT, [released(lease, remaining=5, remaining_ms=1_000)]),
        lambda ledger, lease: ledger.forget_account(ACCOUNT),
    ],
    ids=["open", "estimate", "name", "abandon", "renew", "release", "fault", "429", "header", "forget"],
)
def test_no_verb_makes_a_key_for_ever_when_the_server_has_forgotten_the_account(
    act: Callable[[Ledger, Lease], object], ledger: Ledger, redis_client: redis.Redis
) -> None:
    """The server was emptied, say, or the account's week has passed."""
    (lease,) = jobs(ledger, 1)

    act(ledger, lease)
    endless = without_end(redis_client)
    redis_client.delete(*(key(ACCOUNT) for key in KEYS))

    assert endless == []


def test_an_account_that_stays_in_use_stays_known(ledger: Ledger, line: Line, redis_client: redis.Redis) -> None:
    ledger.store_estimate(ACCOUNT, 0, KNOWN)
    redis_client.expire(names.pace_key(ACCOUNT), 10)

    line.fly(*jobs(ledger, 1))

    assert redis_client.ttl(names.pace_key(ACCOUNT)) > 6 * 86_400
