"""How long a job waits after a server fault. Pure: numbers in, a number out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

# 2**63 seconds is past every cap; a larger exponent only makes floats overflow.
_LARGEST_EXPONENT = 63


def backoff(faults: int, base: timedelta, cap: timedelta, uniform: Callable[[float, float], float]) -> timedelta:
    """Exponential backoff with full jitter: between nothing and min(cap, base doubled for each fault after the first).

    `faults` counts from 1; `uniform(a, b)` draws a number between a and b (random.uniform). Source of the rule: the
    jitter that spreads a crowd best is the full one, drawn from zero.
    """
    ceiling_s = min(cap.total_seconds(), base.total_seconds() * 2 ** min(max(faults - 1, 0), _LARGEST_EXPONENT))
    return timedelta(seconds=uniform(0.0, ceiling_s))
