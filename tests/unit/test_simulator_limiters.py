"""Limiters of every kind: none admits more than its rate, and each knows when it admits again."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limiters import KINDS, Kind, Limiter, Rate, limiter
from mira_queue.simulator.limits import AccountLimits

TINY_S = 1e-6  # more than the error of floating point

kinds = st.sampled_from(KINDS)
rates = st.builds(
    Rate, st.integers(1, 10), st.sampled_from([0.5, 1.0, 6.0, 60.0]), st.none() | st.integers(1, 5).map(float)
)
gaps = st.lists(st.floats(0, 5, allow_nan=False), min_size=1, max_size=100)


def most_in(kind: Kind, rate: Rate, span_s: float) -> float:
    """Return how many calls a limiter of this kind admits in so long, at most."""
    match kind:
        case "sliding-log" | "sliding-window":
            return rate.amount * math.ceil(span_s / rate.window_s + TINY_S)
        case "fixed-window":
            return rate.amount * (math.ceil(span_s / rate.window_s + TINY_S) + 1)
        case "token-bucket":
            return (rate.burst or rate.amount) + span_s / rate.interval_s
        case "leaky-bucket":
            return 1 + (rate.burst or 0) + span_s / rate.interval_s


def fill(used: Limiter, now: float) -> float:
    """Send calls until one is rejected. Return when."""
    while used.admit(now) is not None:
        pass
    return now


@given(kinds, rates, gaps)
def test_no_limiter_admits_more_than_its_rate_in_any_time(kind: Kind, rate: Rate, gaps: list[float]) -> None:
    used, now, admitted = limiter(kind, rate), 1_000.0, list[float]()
    for gap in gaps:
        now += gap
        while used.admit(now) is not None:
            admitted.append(now)
    for first, from_s in enumerate(admitted):
        for last in range(first, len(admitted)):
            assert last - first + 1 <= most_in(kind, rate, admitted[last] - from_s) + TINY_S


@given(kinds, rates, st.floats(0, 100), st.floats(0, 1))
def test_a_call_is_admitted_at_the_time_that_its_rejection_states_and_not_before(
    kind: Kind, rate: Rate, now: float, part: float
) -> None:
    used = limiter(kind, rate)
    fill(used, now)
    wait_s = used.wait_s(now)

    assert wait_s > 0
    if wait_s > 2 * TINY_S:
        assert copy.deepcopy(used).admit(now + part * (wait_s - 2 * TINY_S)) is None
    assert copy.deepcopy(used).admit(now + wait_s + TINY_S) is not None


@given(kinds, rates, gaps)
def test_as_many_calls_are_admitted_as_remain(kind: Kind, rate: Rate, gaps: list[float]) -> None:
    used, now = limiter(kind, rate), 0.0
    for gap in gaps:
        now += gap
        remaining = math.floor(used.remaining(now) + TINY_S)
        again = copy.deepcopy(used)
        admitted = [again.admit(now) is not None for _ in range(remaining + 1)]
        assert admitted[: remaining - 1] == [True] * max(0, remaining - 1)
        assert not admitted[-1]
        used.admit(now)


@given(kinds, rates, gaps)
def test_after_its_reset_a_limiter_is_as_good_as_new(kind: Kind, rate: Rate, gaps: list[float]) -> None:
    used, now = limiter(kind, rate), 0.0
    for gap in gaps:
        now += gap
        used.admit(now)
    later = now + used.reset_s(now) + TINY_S

    assert used.remaining(later) == pytest.approx(limiter(kind, rate).remaining(later), abs=TINY_S)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "leaky-bucket"])
def test_a_call_that_is_larger_than_the_limit_is_never_admitted(kind: Kind) -> None:
    used = limiter(kind, Rate(30_000, 60))

    assert used.admit(0.0, 342_389) is None
    assert used.wait_s(0.0, 342_389) == math.inf


def test_only_the_sliding_log_counts_rejected_calls() -> None:
    admitted = {}
    for kind in KINDS:
        used = limiter(kind, Rate(3, 6))
        admitted[kind] = sum(used.admit(tenth / 10) is not None for tenth in range(600))

    assert admitted.pop("sliding-log") == 3
    assert min(admitted.values()) >= 29


def test_a_leaky_bucket_delays_calls_that_come_too_soon_and_rejects_those_that_do_not_fit() -> None:
    used = limiter("leaky-bucket", Rate(10, 1, burst=2))

    assert [used.admit(5.0) for _ in range(4)] == [0, pytest.approx(0.1), pytest.approx(0.2), None]


# --- of an account ---


def test_the_calls_of_other_clients_count_toward_the_rate() -> None:
    config, account = SimulatorConfig(rate=6000, rate_window_s=600.0, other_calls=3.0), AccountLimits()

    admitted = [account.admit(config, 9_000.0).limit for _ in range(6000)].count(None)

    # At random times, but about 3 per second for 600 s.
    assert 1650 <= 6000 - admitted <= 1950


def test_another_client_may_call_at_even_times() -> None:
    config = SimulatorConfig(rate=60, rate_window_s=6.0, other_calls=3.0, other_calls_at="even")
    account = AccountLimits()

    admitted = [[account.admit(config, now).limit for _ in range(70)].count(None) for now in (0.0, 60.0, 120.0)]

    assert admitted[1:] == [42, 42]


def test_only_the_models_that_are_named_have_limits_each_its_own() -> None:
    config = SimulatorConfig(rate=2, concurrency=1, limited_models=("mira-pro", "mira-max"))
    account = AccountLimits()

    assert [account.admit(config, 0.0, model="mira").limit for _ in range(9)] == [None] * 9
    assert [account.admit(config, 0.0, model="mira-pro").limit for _ in range(3)] == [None, "concurrency", "rate"]
    assert account.admit(config, 0.0, model="mira-max").limit is None
    account.release("mira-max")
    assert account.admit(config, 1.0, model="mira-max").limit is None


def test_tokens_are_a_limit_of_their_own_and_state_the_true_wait() -> None:
    config, account = SimulatorConfig(token_rate=600, token_window_s=60.0), AccountLimits()

    assert [account.admit(config, 0.0, 200).limit for _ in range(3)] == [None] * 3
    verdict = account.admit(config, 0.0, 100)

    assert verdict.limit == "tokens"
    assert verdict.wait_s == pytest.approx(10)
    assert account.admit(config, 10.001, 100).limit is None
    assert account.admit(config, 11.0, 601).wait_s == math.inf


def test_a_limiter_states_the_true_wait_and_mira_the_whole_window() -> None:
    for limiter_kind, wait_s in (("sliding-log", 60.0), ("fixed-window", 20.0), ("sliding-window", 60.0)):
        config, account = SimulatorConfig.model_validate({"rate": 1, "limiter": limiter_kind}), AccountLimits()
        account.admit(config, 100.0)
        assert account.admit(config, 100.0).wait_s == pytest.approx(wait_s)
