"""Policy of the circuit breaker: when faults open it, for how long, and whether the job is charged."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.pacing.breaker import is_charged, pause

from mira_queue.contract.errors import InvalidResponse, JobError, ServerError, ServerTimeout, Unreachable
from mira_queue.contract.pace import FaultStreak

ONE_SICK_JOB = FaultStreak(jobs=1, in_flight=3, lasted_ms=0, was_probe=False, is_old=False)
PROBE = replace(ONE_SICK_JOB, was_probe=True, in_flight=1)

rows = st.builds(FaultStreak, st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**9))


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize(
    ("in_flight", "jobs"), [(1, 3), (3, 3), (7, 3), (8, 4), (12, 6), (20, 10), (21, 10), (40, 10), (1000, 250)]
)
def test_the_more_calls_are_out_the_more_jobs_must_meet_a_fault_in_a_row(in_flight: int, jobs: int) -> None:
    row = replace(ONE_SICK_JOB, in_flight=in_flight)

    assert pause(replace(row, jobs=jobs - 1), highest) is None
    assert pause(replace(row, jobs=jobs), highest) == timedelta(milliseconds=250)


def test_a_probe_that_meets_a_fault_opens_the_breaker_again_alone() -> None:
    assert pause(PROBE, highest) == timedelta(milliseconds=250)


@pytest.mark.parametrize("row", [replace(ONE_SICK_JOB, jobs=1000), PROBE])
def test_a_call_that_left_before_the_breaker_was_opened_does_not_close_it_again(row: FaultStreak) -> None:
    assert pause(replace(row, is_old=True), highest) is None


@pytest.mark.parametrize(
    ("lasted_s", "pause_ms"),
    [(0, 250), (1, 250), (2, 500), (6, 1500), (60, 1500), (62, 2000), (200, 36_500), (294, 60_000), (9999, 60_000)],
)
def test_pauses_grow_with_a_quarter_of_the_outage_up_to_a_minute_and_stay_short_in_its_first_minute(
    lasted_s: int, pause_ms: float
) -> None:
    longest = pause(replace(PROBE, lasted_ms=1000 * lasted_s), highest)
    shortest = pause(replace(PROBE, lasted_ms=1000 * lasted_s), lowest)

    assert longest is not None
    assert shortest is not None
    assert longest / timedelta(milliseconds=1) == pytest.approx(pause_ms, abs=0.01)
    assert shortest / longest == pytest.approx(0.8)


@given(rows, st.booleans(), st.booleans(), st.randoms(use_true_random=False))
def test_every_pause_lies_between_a_fifth_of_a_second_and_a_minute(
    row: FaultStreak, was_probe: bool, is_old: bool, source: random.Random
) -> None:
    found = pause(replace(row, was_probe=was_probe, is_old=is_old), source.uniform)

    assert found is None or timedelta(milliseconds=200) <= found <= timedelta(minutes=1)


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_a_later_pause_is_never_shorter(lasted_ms: int, more_ms: int) -> None:
    sooner, later = (pause(replace(PROBE, lasted_ms=each), highest) for each in (lasted_ms, lasted_ms + more_ms))

    assert sooner is not None
    assert later is not None
    assert sooner <= later


@pytest.mark.parametrize(
    ("fault", "of_a_probe"),
    [
        (ServerError("down", 503), False),
        (ServerError("down", 502), False),
        (Unreachable("reset"), False),
        (InvalidResponse("half an answer", 200), True),
        (ServerTimeout("too long", 408), True),
        (ServerError("a bug, or no database", 500), False),
    ],
    ids=str,
)
def test_a_probe_is_charged_only_with_what_the_server_says_of_its_request(fault: JobError, of_a_probe: bool) -> None:
    assert is_charged(PROBE, fault) is of_a_probe
    assert is_charged(replace(ONE_SICK_JOB, jobs=3), fault) is of_a_probe
    assert is_charged(ONE_SICK_JOB, fault)


@given(rows, st.booleans(), st.booleans())
def test_a_fault_is_charged_as_the_jobs_own_or_if_too_few_other_jobs_have_one(
    row: FaultStreak, was_probe: bool, is_old: bool
) -> None:
    fault, row = ServerError("down", 503), replace(row, was_probe=was_probe, is_old=is_old)

    assert is_charged(replace(row, is_own=True), fault)
    if not was_probe:
        assert is_charged(row, fault) is (row.jobs < 3)


def test_a_probe_of_a_job_whose_own_fault_it_is_does_not_open_the_breaker_again() -> None:
    assert pause(replace(PROBE, jobs=0, closed_breaker=True), highest) is None


def test_when_probes_come_a_minute_apart_they_are_charged() -> None:
    fault = ServerError("down", 503)

    assert not is_charged(replace(PROBE, lasted_ms=200_000), fault)
    assert is_charged(replace(PROBE, lasted_ms=300_000), fault)


@given(rows, st.booleans())
def test_if_only_sick_jobs_are_left_they_use_up_their_attempts(row: FaultStreak, was_probe: bool) -> None:
    assert is_charged(replace(row, jobs=0, was_probe=was_probe), ServerError("down", 503))
