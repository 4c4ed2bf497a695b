"""The limits of an account, through hours and days of a clock that the tests turn."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limits import AccountLimits, RetryAfterLog

DAY = 86_400.0
gaps = st.lists(st.floats(0, 20, allow_nan=False), min_size=1, max_size=200)


def hit(account: AccountLimits, config: SimulatorConfig, now: float) -> str | None:
    return account.admit(config, now).limit


def test_without_settings_nothing_is_refused() -> None:
    account = AccountLimits()
    assert all(hit(account, SimulatorConfig(), 0.0) is None for _ in range(10_000))


def test_the_rate_admits_so_many_in_a_window_and_refuses_the_next() -> None:
    config, account = SimulatorConfig(rate=3, rate_window_s=60), AccountLimits()
    assert [hit(account, config, 0.0) for _ in range(4)] == [None, None, None, "rate"]


def test_a_call_leaves_the_rate_log_one_window_after_it_came() -> None:
    config, account = SimulatorConfig(rate=1, rate_window_s=60), AccountLimits()
    assert hit(account, config, 10.0) is None
    assert hit(account, config, 70.0) is None


def test_a_client_that_keeps_knocking_stays_locked_out() -> None:
    config, account = SimulatorConfig(rate=3, rate_window_s=60), AccountLimits()
    answers = [hit(account, config, float(second)) for second in range(3600)]
    assert answers[:3] == [None] * 3
    assert set(answers[3:]) == {"rate"}


def test_a_client_that_waits_the_whole_window_gets_the_whole_rate_again() -> None:
    config, account = SimulatorConfig(rate=3, rate_window_s=60), AccountLimits()
    for _ in range(5):
        hit(account, config, 0.0)
    assert [hit(account, config, 60.0) for _ in range(4)] == [None, None, None, "rate"]


@given(gaps=gaps, rate=st.integers(1, 10), window=st.floats(0.5, 60))
def test_the_rate_log_never_admits_more_than_the_rate_in_any_window(
    gaps: list[float], rate: int, window: float
) -> None:
    config, account = SimulatorConfig(rate=rate, rate_window_s=window), AccountLimits()
    now, admitted = 0.0, []
    for gap in gaps:
        now += gap
        if hit(account, config, now) is None:
            admitted.append(now)
    for first in range(len(admitted)):
        assert sum(1 for time in admitted[first:] if time - admitted[first] < window) <= rate


@given(gaps=gaps, rate=st.integers(1, 10), window=st.floats(0.5, 60))
def test_a_call_is_refused_exactly_when_the_window_holds_the_rate_refused_ones_included(
    gaps: list[float], rate: int, window: float
) -> None:
    config, account = SimulatorConfig(rate=rate, rate_window_s=window), AccountLimits()
    now, came = 0.0, deque[float]()
    for gap in gaps:
        now += gap
        expected = "rate" if sum(1 for time in came if now - time < window) >= rate else None
        assert hit(account, config, now) == expected
        came.append(now)


@given(steps=st.lists(st.booleans(), max_size=300), concurrency=st.integers(0, 5))
def test_no_more_than_the_concurrency_are_ever_in_flight(steps: list[bool], concurrency: int) -> None:
    config, account = SimulatorConfig(concurrency=concurrency), AccountLimits()
    held = 0
    for arrives in steps:
        if arrives:
            refusal = hit(account, config, 0.0)
            assert (refusal is None) == (held < concurrency)
            held += refusal is None
        elif held:
            account.release()
            held -= 1
        assert account.in_flight == held <= concurrency


def test_a_call_refused_for_concurrency_is_in_the_rate_log() -> None:
    config, account = SimulatorConfig(rate=2, concurrency=1), AccountLimits()
    assert [hit(account, config, 0.0) for _ in range(3)] == [None, "concurrency", "rate"]
    assert account.in_window(config, 0.0) == 3


def test_the_balance_is_checked_before_the_rate_and_leaves_no_trace_in_its_log() -> None:
    config, account = SimulatorConfig(rate=1, balance_calls=1), AccountLimits()
    account.charge(10)
    assert [hit(account, config, 0.0) for _ in range(3)] == ["balance"] * 3
    assert account.in_window(config, 0.0) == 0


def test_the_rate_is_checked_before_the_quota_and_the_quota_before_concurrency() -> None:
    account = AccountLimits()
    config = SimulatorConfig(rate=2, quota=1, concurrency=1)
    assert [hit(account, config, 0.0) for _ in range(3)] == [None, "quota", "rate"]
    assert hit(AccountLimits(), SimulatorConfig(quota=0, concurrency=0), 0.0) == "quota"


def test_the_quota_refuses_again_and_again_until_the_day_turns() -> None:
    config, account = SimulatorConfig(quota=20), AccountLimits()
    for day in range(3):
        for hour in range(24):
            expected = [None] * 20 if hour == 0 else ["quota"] * 20
            assert [hit(account, config, day * DAY + hour * 3600) for _ in range(20)] == expected


def test_a_balance_of_tokens_is_used_up_by_answers_and_can_be_topped_up() -> None:
    account = AccountLimits()
    assert hit(account, SimulatorConfig(balance_tokens=100), 0.0) is None
    account.charge(100)
    assert hit(account, SimulatorConfig(balance_tokens=100), 0.0) == "balance"
    assert hit(account, SimulatorConfig(balance_tokens=200), 0.0) is None


def test_a_limit_that_is_raised_takes_effect_at_once_and_remembers_what_came() -> None:
    account = AccountLimits()
    assert [hit(account, SimulatorConfig(rate=2), 0.0) for _ in range(3)] == [None, None, "rate"]
    assert [hit(account, SimulatorConfig(rate=5), 1.0) for _ in range(3)] == [None, None, "rate"]


def test_after_a_reset_only_the_calls_in_flight_count() -> None:
    config, account = SimulatorConfig(rate=1, concurrency=1), AccountLimits()
    hit(account, config, 0.0)
    fresh = AccountLimits(account.calls_in_flight)
    assert (fresh.in_flight, fresh.max_in_flight, fresh.in_window(config, 0.0)) == (1, 1, 0)


def test_a_call_before_its_retry_after_is_early_and_one_at_it_is_not() -> None:
    log = RetryAfterLog()
    log.add(0.0, 60.0)
    assert log.check(59.9, 0.1) == "early"
    assert log.check(60.0, 0.1) is None


def test_a_call_that_was_on_its_way_when_it_was_refused_has_crossed_it() -> None:
    log = RetryAfterLog()
    log.add(0.0, 60.0)
    assert log.check(0.05, 0.1) == "crossed"
    assert log.check(0.1, 0.1) == "early"


def test_a_call_that_crosses_the_newest_refusal_is_early_if_it_is_early_for_an_older_one() -> None:
    log = RetryAfterLog()
    log.add(0.0, 60.0)
    log.add(30.0, 60.0)
    assert log.check(30.01, 0.1) == "early"
    assert log.until == 90.0


def test_a_short_retry_after_does_not_end_a_long_one() -> None:
    log = RetryAfterLog()
    log.add(0.0, 60.0)
    log.add(0.0, 5.0)
    assert log.check(30.0, 0.1) == "early"


@given(
    given_at=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=30),
    asked=st.floats(0, 200),
    grace=st.floats(0, 1),
)
def test_the_check_agrees_with_its_definition(given_at: list[tuple[float, float]], asked: float, grace: float) -> None:
    log = RetryAfterLog()
    given_at = sorted(pair for pair in given_at if pair[0] <= asked)
    for now, seconds in given_at:
        log.add(now, seconds)
    known = any(asked < now + seconds for now, seconds in given_at if now + grace <= asked)
    any_at_all = any(asked < now + seconds for now, seconds in given_at)
    assert log.check(asked, grace) == ("early" if known else "crossed" if any_at_all else None)
