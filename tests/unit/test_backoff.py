"""Exponential backoff with full jitter."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.backoff import backoff

BASE = timedelta(seconds=1)
CAP = timedelta(seconds=60)

durations = st.timedeltas(min_value=timedelta(milliseconds=1), max_value=timedelta(days=1))


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize(("faults", "seconds"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (8, 60), (1000, 60)])
def test_the_ceiling_doubles_with_each_fault_up_to_the_cap(faults: int, seconds: float) -> None:
    assert backoff(faults, BASE, CAP, highest) == timedelta(seconds=seconds)


@pytest.mark.parametrize("faults", [1, 5, 100])
def test_the_jitter_is_full_it_begins_at_nothing(faults: int) -> None:
    assert backoff(faults, BASE, CAP, lowest) == timedelta(0)


@given(st.integers(-5, 10**9), durations, durations, st.randoms(use_true_random=False))
def test_every_wait_lies_between_nothing_and_the_cap(
    faults: int, base: timedelta, cap: timedelta, source: random.Random
) -> None:
    assert timedelta(0) <= backoff(faults, base, cap, source.uniform) <= cap


@given(st.integers(1, 100), durations, durations)
def test_a_later_fault_never_has_a_lower_ceiling(faults: int, base: timedelta, cap: timedelta) -> None:
    assert backoff(faults, base, cap, highest) <= backoff(faults + 1, base, cap, highest)
