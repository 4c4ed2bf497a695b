"""Wait of a job after a server fault. Pure: numbers in, a number out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

# 2**63 seconds exceed every cap. A larger exponent would only make the float overflow.
_MAX_EXPONENT = 63


def backoff(faults: int, base: timedelta, cap: timedelta, uniform: Callable[[float, float], float]) -> timedelta:
    """Return an exponential backoff with full jitter: between 0 and min(cap, base * 2 ** (faults - 1)).

    `faults` counts from 1. `uniform(a, b)` draws a number between a and b, as random.uniform does.
    """
    ceiling_s = min(cap.total_seconds(), base.total_seconds() * 2 ** min(max(faults - 1, 0), _MAX_EXPONENT))
    return timedelta(seconds=uniform(0.0, ceiling_s))
