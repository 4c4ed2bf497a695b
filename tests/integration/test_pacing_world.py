"""What the pacer promises, in a world with a clock of its own: at the limit, never early, and fair.

Shares are of what the limit allows. Every world is the same each time: its clock is simulated, its chance has a seed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mira_queue.contract.pace import ConfiguredLimits, Estimate
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.simulator.config import SimulatorConfig
from tests.support import redis_keys
from tests.support.ledger_steps import LIFE
from tests.support.paced_world import ACCOUNT, START_MS, World

# The API's limits, one tenth as long: 60 calls in 6 s.
TEN_A_SECOND: dict[str, Any] = {"rate": 60, "rate_window_s": 6.0}
HOUR_S = 3600.0
# Of what a limit allows, once it is known; and of all calls, those that were refused to find it.
STEADY, REFUSED = 0.93, 0.015

# The API's configuration as a dict; the rest goes to World.
Build = Callable[..., World]


@pytest.fixture(scope="module")
def build(redis_url: str) -> Iterator[Build]:
    """A world in which nothing is known yet."""
    with connect(redis_url) as client:
        ledger = Ledger(client, result_ttl=LIFE)

        def new(config: dict[str, Any], **options: Any) -> World:
            redis_keys.clear(client)
            return World(ledger, SimulatorConfig.model_validate(config), **options)

        yield new


def accepted_at(world: World) -> list[float]:
    """When, in seconds, calls were accepted."""
    return [at_ms / 1000 for at_ms, is_accepted in world.calls if is_accepted]


def whole_windows(world: World, calls: int, window_s: float, since_s: float = 0) -> float:
    """Share of the rate, from one accepted call to the last that is a multiple of `calls` later."""
    times = [at_s for at_s in accepted_at(world) if at_s >= since_s]
    windows = (len(times) - 1) // calls
    assert windows >= 3, "too short to tell"
    return windows * window_s / (times[windows * calls] - times[0])


def refused_share(world: World, since_s: float = 0) -> float:
    return world.refused(since_s) / (world.refused(since_s) + world.accepted(since_s))


def in_seconds(world: World, since_s: float, until_s: float) -> int:
    """Calls that were accepted between the two."""
    return world.accepted(since_s) - world.accepted(until_s)


def most_in_any(world: World, window_s: float) -> int:
    """Most calls, refused ones included, that arrived in any so long."""
    times = sorted(at_ms / 1000 for at_ms, _ in world.calls)
    return max((index - bisect_right(times, at_s - window_s) + 1 for index, at_s in enumerate(times)), default=0)


def estimate(world: World) -> Estimate:
    return world.ledger.estimate(ACCOUNT)[1]


# --- a limit is found, and used to its end ---


def test_sixty_calls_in_six_seconds_are_found_and_kept_to(build: Build) -> None:
    world = build(TEN_A_SECOND, slots=50)

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert whole_windows(world, 60, 6) >= STEADY
    learned = estimate(world)
    assert learned.rate is not None
    assert (learned.rate.max_calls, learned.rate.retry_after_ms, learned.in_flight) == (60, 6_000, None)


def test_three_calls_in_flight_are_found_and_kept_to(build: Build) -> None:
    world = build({"concurrency": 3, "latency_s": 0.2})

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert world.accepted(20) / (100 * 3 / 0.2) >= STEADY
    learned = estimate(world)
    assert learned.in_flight is not None
    assert (learned.in_flight.max_calls, learned.rate) == (3, None)


def test_both_limits_are_told_apart_and_kept_to(build: Build) -> None:
    world = build({**TEN_A_SECOND, "concurrency": 3, "latency_s": 0.2})

    world.run(180)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert whole_windows(world, 60, 6, since_s=30) >= STEADY
    learned = estimate(world)
    assert learned.rate is not None
    assert learned.in_flight is not None
    assert (learned.rate.max_calls, learned.in_flight.max_calls) == (60, 3)


def test_calls_of_seconds_with_twenty_in_flight(build: Build) -> None:
    world = build({"concurrency": 20, "latency_s": [1, 3]}, slots=40)

    world.run(240)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert world.accepted(40) / (200 * 20 / 2) >= STEADY
    assert world.most_in_flight == 20


def test_one_call_at_a_time_is_a_limit_too(build: Build) -> None:
    world = build({"concurrency": 1, "latency_s": 0.2})

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert world.accepted(20) / (100 / 0.2) >= STEADY


def test_without_limits_all_jobs_are_out_at_once_and_none_is_held_back(build: Build) -> None:
    world = build({"latency_s": 0.2}, slots=40)

    world.run(30)

    assert world.refused() == 0
    assert world.most_in_flight == 40
    assert world.accepted(10) / (20 * 40 / 0.2) >= STEADY


def test_two_processes_get_the_same_of_a_rate(build: Build) -> None:
    world = build({**TEN_A_SECOND, "latency_s": 0.2}, processes=2)
    world.run(60)
    before = [process.sent for process in world.fleet]

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    one, other = (process.sent - sent for process, sent in zip(world.fleet, before, strict=True))
    assert abs(one - other) <= 0.05 * (one + other)


def test_two_processes_get_the_same_of_the_places_in_flight(build: Build) -> None:
    world = build({"concurrency": 20, "latency_s": [1, 3]}, processes=2)

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    one, other = (process.sent for process in world.fleet)
    assert abs(one - other) <= 0.05 * (one + other)


@pytest.mark.parametrize(("concurrency", "slots"), [(1, 1), (20, 16)])
def test_a_process_whose_jobs_all_fit_leaves_places_to_the_other(build: Build, concurrency: int, slots: int) -> None:
    world = build({"concurrency": concurrency, "latency_s": [1, 3]}, processes=2, slots=slots)

    world.run(120)

    assert world.early == 0
    one, other = (process.sent for process in world.fleet)
    assert abs(one - other) <= 0.05 * (one + other)


def test_two_processes_together_get_all_that_one_would(build: Build) -> None:
    world = build({**TEN_A_SECOND, "latency_s": 0.2}, processes=2)

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert whole_windows(world, 60, 6, since_s=12) >= STEADY


def test_of_three_processes_none_is_left_behind_where_calls_are_few_at_a_time(build: Build) -> None:
    world = build({"concurrency": 3, "latency_s": [0.1, 0.5]}, processes=3)

    world.run(120)

    least, _, most = sorted(process.sent for process in world.fleet)
    assert most <= 1.05 * least
    assert world.early == 0


# --- a limit changes ---


def test_half_the_rate_is_found_after_one_lost_window(build: Build) -> None:
    world = build(TEN_A_SECOND, slots=50)
    world.run(60)
    world.configure(rate=30)
    world.run(120)

    assert world.early == 0
    # The calls of one window that were too many, and the look for more that follows.
    assert world.refused(60) <= 33
    assert whole_windows(world, 30, 6, since_s=72) >= STEADY
    assert in_seconds(world, 60, 90) >= 30 * 3


def test_twice_the_rate_is_found_within_fourteen_windows(build: Build) -> None:
    world = build(TEN_A_SECOND, slots=50)
    world.run(60)
    world.configure(rate=120)
    world.run(150)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    assert whole_windows(world, 120, 6, since_s=60 + 14 * 6) >= STEADY


def test_twice_as_many_in_flight_are_found_within_seconds(build: Build) -> None:
    world = build({"concurrency": 3, "latency_s": 0.2})
    world.run(60)
    world.configure(concurrency=6)
    world.run(60)

    assert world.early == 0
    assert refused_share(world) <= REFUSED
    full = [at_s for at_s in range(60, 120) if in_seconds(world, at_s, at_s + 1) >= 25]
    assert full[0] <= 80
    assert world.accepted(80) / (40 * 6 / 0.2) >= 0.9


def test_fewer_in_flight_are_found_after_two_429s(build: Build) -> None:
    world = build({"concurrency": 20, "latency_s": [1, 3]}, slots=30)
    world.run(60)
    world.configure(concurrency=3)
    world.run(120)

    assert world.early == 0
    assert world.accepted(80) / (100 * 3 / 2) >= STEADY
    assert refused_share(world, 80) <= 0.03


# --- told ---


@pytest.mark.parametrize("processes", [1, 2])
def test_who_has_configured_the_rate_is_never_rate_limited(build: Build, processes: int) -> None:
    world = build(TEN_A_SECOND, slots=50, processes=processes, configured=ConfiguredLimits(rate=60, window_ms=6_000))

    world.run(120)

    assert (world.refused(), world.early) == (0, 0)
    assert whole_windows(world, 60, 6) >= STEADY
    assert most_in_any(world, 6) == 60


def test_who_has_configured_the_calls_in_flight_starts_at_that_number(build: Build) -> None:
    world = build({"latency_s": [1, 3]}, slots=30, configured=ConfiguredLimits(in_flight=20))

    world.run(60)

    assert world.refused() == 0
    assert world.most_in_flight == 20
    assert world.accepted() / (60 * 20 / 2) >= 0.9


def test_who_has_configured_too_much_learns_what_is_right(build: Build) -> None:
    world = build(TEN_A_SECOND, slots=50, configured=ConfiguredLimits(rate=90, window_ms=6_000))

    world.run(120)

    assert world.early == 0
    assert refused_share(world) <= 0.05
    assert whole_windows(world, 60, 6, since_s=30) >= STEADY


# --- a quota ---


def test_a_quota_is_slept_through_with_one_probe_for_each_wait(build: Build) -> None:
    world = build({"quota": 100, "quota_retry_after_s": HOUR_S})

    world.run(20 * HOUR_S)

    assert world.accepted() == 100
    assert world.early == 0
    # Of the first event some were out already.
    hours = [round(at_ms / 1000 / HOUR_S) for at_ms, is_accepted in world.calls if not is_accepted]
    assert [hours.count(hour) for hour in range(1, 20)] == [1] * 19


def test_when_the_quotas_day_has_turned_all_go_on(build: Build) -> None:
    world = build({"quota": 100, "quota_retry_after_s": HOUR_S, "day_s": 6 * HOUR_S})

    world.run(24 * HOUR_S)

    assert world.early == 0
    assert world.accepted() == 500
    assert (estimate(world).rate, estimate(world).in_flight) == (None, None)


# --- where the pacer learns nothing, or the wrong thing ---


def second_half(world: World, seconds: float) -> tuple[float, float]:
    """Accepted calls a second, and the share of refused ones, in the second half of so long."""
    return world.accepted(seconds / 2) / (seconds / 2), refused_share(world, seconds / 2)


def test_an_account_that_somebody_has_just_used_up_is_learned_all_the_same(build: Build) -> None:
    world = build(TEN_A_SECOND, slots=50)
    for _ in range(60):
        world.limits.admit(world.config, world.now_ms / 1000 - 1)
        world.limits.release()

    world.run(240)

    assert world.early == 0
    pace, refused = second_half(world, 240)
    assert pace / 10 >= 0.9
    assert refused <= 0.05


@pytest.mark.parametrize(("latency_s", "mean_s"), [([1, 3], 2), (0.2, 0.2)], ids=["long calls", "short calls"])
def test_a_limit_in_flight_where_there_was_none_is_found(build: Build, latency_s: Any, mean_s: float) -> None:
    world = build({"latency_s": latency_s}, slots=30)
    world.run(60)
    world.configure(concurrency=3)

    world.run(240)

    assert world.early == 0
    pace, refused = second_half(world, 300)
    assert pace / (3 / mean_s) >= 0.9
    assert refused <= 0.05


@pytest.mark.parametrize(
    ("rate", "window_s", "latency_s", "fleet"),
    [
        pytest.param(60, 60, [5, 20], {"processes": 2, "slots": 32}, id="60 in 60 s, two processes"),
        pytest.param(30, 60, [1, 3], {"slots": 30}, id="30 in 60 s"),
        pytest.param(10, 60, [1, 3], {"slots": 30}, id="10 in 60 s"),
        pytest.param(10, 6, [1, 3], {"slots": 30}, id="10 in 6 s"),
        pytest.param(3, 60, [1, 3], {"slots": 30}, id="3 in 60 s"),
        pytest.param(2, 1, 0, {"slots": 30}, id="2 in 1 s, answered at once"),
    ],
)
def test_a_rate_is_not_taken_for_something_else(
    build: Build, rate: int, window_s: float, latency_s: Any, fleet: dict[str, int]
) -> None:
    world = build({"rate": rate, "rate_window_s": window_s, "latency_s": latency_s}, **fleet)

    world.run(40 * window_s)

    assert world.early == 0
    pace, refused = second_half(world, 40 * window_s)
    assert pace / (rate / window_s) >= 0.9
    assert refused <= 0.05


def test_many_short_calls_in_flight_are_not_taken_for_a_rate(build: Build) -> None:
    world = build({"concurrency": 10, "latency_s": [0.02, 0.05]}, slots=30)

    world.run(60)

    assert world.early == 0
    pace, _ = second_half(world, 60)
    assert pace / (10 / 0.04) >= 0.8


# --- limiters that say something else than their window ---

BUCKET: dict[str, Any] = {"rate": 10, "rate_window_s": 1.0, "limiter": "token-bucket", "latency_s": 0.1}
FIXED: dict[str, Any] = {**TEN_A_SECOND, "limiter": "fixed-window", "latency_s": 0.1}


@pytest.mark.parametrize(
    ("limiter", "form", "refused"),
    [
        pytest.param(FIXED, "fraction", 0.01, id="fixed window, fractions"),
        pytest.param(FIXED, "integer", 0.01, id="fixed window, rounded up"),
        pytest.param(BUCKET, "fraction", 0.02, id="token bucket, fractions"),
        pytest.param(BUCKET, "integer", 0.02, id="token bucket, rounded up"),
    ],
)
def test_a_limiter_whose_wait_is_not_its_window_is_measured(
    build: Build, limiter: dict[str, Any], form: str, refused: float
) -> None:
    world = build({**limiter, "retry_after_form": form}, slots=32)

    world.run(60)

    assert world.early == 0
    assert world.accepted(12) / (48 * 10) >= STEADY
    assert refused_share(world) <= refused


def test_rate_headers_on_every_response_keep_calls_from_being_refused(build: Build) -> None:
    world = build({**FIXED, "retry_after_form": "fraction", "rate_headers": "openai"}, slots=32)

    world.run(60)

    assert world.early == 0
    assert world.accepted(12) / (48 * 10) >= STEADY
    assert refused_share(world) <= 0.005


@pytest.mark.parametrize(("times", "share", "refused"), [("even", 0.95, 0.015), ("random", 0.7, 0.03)])
def test_what_another_client_leaves_of_a_rate_is_used(build: Build, times: str, share: float, refused: float) -> None:
    others = {"other_calls": 3.0, "other_calls_at": times}
    world = build({**TEN_A_SECOND, "concurrency": 3, "latency_s": 0.1, **others}, slots=32)

    world.run(90)

    assert world.early == 0
    # Bursts of calls at random times leave less: docs/pacing.md has the arithmetic.
    assert world.accepted(12) / (78 * 7) >= share
    assert refused_share(world) <= refused


@pytest.mark.parametrize("start_s", [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
def test_a_fixed_window_whose_waits_are_rounded_up_is_measured_wherever_it_began(build: Build, start_s: float) -> None:
    world = build({**FIXED, "retry_after_form": "integer"}, slots=32, start_ms=START_MS + round(1000 * start_s))

    world.run(60)

    assert world.early == 0
    assert world.accepted(18) / (42 * 10) >= 0.97
    assert refused_share(world) <= 0.01


# --- slots that are taken away ---


@pytest.mark.parametrize("latency_s", [0.37, [0.1, 0.5], [1, 3]], ids=["equal calls", "short calls", "long calls"])
def test_a_lowered_concurrency_limit_is_not_learned_as_a_rate(build: Build, latency_s: Any) -> None:
    world = build({"concurrency": 3, "latency_s": latency_s, "concurrency_retry_after_s": 5.0}, slots=32)
    world.run(20)
    world.configure(concurrency=2)

    world.run(120)

    mean_s = latency_s if isinstance(latency_s, float) else sum(latency_s) / 2
    assert (estimate(world).rate, world.early) == (None, 0)
    assert world.accepted(20) / (120 * 2 / mean_s) >= 0.8


def test_while_all_slots_have_leaked_few_probes_use_up_quota_and_the_second_time_fewer(build: Build) -> None:
    world = build({"concurrency": 3, "latency_s": 0.37, "concurrency_retry_after_s": 5.0})
    world.run(20)
    world.configure(concurrency=0)
    world.run(300)
    first = world.refused(20)
    world.configure(concurrency=3)
    world.run(200)
    assert in_seconds(world, 420, 500) / (80 * 3 / 0.37) >= 0.8
    world.configure(concurrency=0)
    world.run(300)

    assert (first, world.refused(520), world.early) == (8, 2, 0)
    assert estimate(world).rate is None


# --- the start ---


def test_without_limits_200_slots_are_in_use_within_4_s_and_1000_within_8_s(build: Build) -> None:
    world = build({"latency_s": 5.0}, slots=1_000)

    world.run(4)
    assert world.most_in_flight >= 200
    world.run(4)
    assert world.most_in_flight == 1_000


def test_the_first_file_of_an_account_with_the_expected_limits_gets_no_429(build: Build) -> None:
    mira = {"rate": 60, "rate_window_s": 60.0, "concurrency": 3, "concurrency_retry_after_s": 5.0, "latency_s": 0.37}
    expected = ConfiguredLimits(expected_rate=60, expected_window_ms=60_000, expected_in_flight=3)
    world = build(mira, slots=32, configured=expected, open_jobs=300)

    world.run(7)
    assert world.accepted() >= 50
    world.run(255)

    assert (world.refused(), world.early) == (0, 0)
    assert world.accepted() >= 300


# --- whatever the API is like ---

limits = st.fixed_dictionaries(
    {
        "rate": st.none() | st.integers(1, 40),
        "rate_window_s": st.sampled_from([1.0, 6.0]),
        "concurrency": st.none() | st.integers(1, 12),
        "latency_s": st.sampled_from([(0.2, 0.2), (0.1, 0.5), (1.0, 3.0)]),
    }
)
tolds = st.builds(
    lambda rate, window_ms, in_flight: ConfiguredLimits(rate, window_ms if rate else 0, in_flight),
    st.sampled_from([0, 5, 20]),
    st.sampled_from([1_000, 6_000]),
    st.sampled_from([0, 1, 4]),
)
# Some windows, some of the longest calls.
HALF_S = 24.0


@settings(max_examples=25)
@given(before=limits, after=limits, configured=tolds, processes=st.integers(1, 2), seed=st.integers(0, 10**6))
def test_whatever_the_limits_are_and_become_nobody_is_early_or_above_what_was_configured_and_jobs_go_on(
    build: Build, before: dict[str, Any], after: dict[str, Any], configured: ConfiguredLimits, processes: int, seed: int
) -> None:
    world = build(before, configured=configured, processes=processes, slots=5, seed=seed)

    world.run(HALF_S)
    world.configure(**after)
    world.run(HALF_S)

    assert world.early == 0
    assert not configured.in_flight or world.most_in_flight <= configured.in_flight
    assert not configured.rate or most_in_any(world, configured.window_ms / 1000) <= configured.rate
    assert in_seconds(world, 0, HALF_S) >= 1
    assert in_seconds(world, HALF_S, 2 * HALF_S) >= 1
