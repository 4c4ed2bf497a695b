"""Histograms of an account's calls: how long they take, and how long jobs wait for their permits.

The buckets are fixed, because all workers count in the same ones.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Upper ends of the buckets, in seconds. One more bucket has no end.
DURATION_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300)
WAIT_S = (0.01, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600)


class CallTimes(NamedTuple):
    """Times of one call in ms. The duration is None for a rate-limited call: it says nothing about the model."""

    duration_ms: int | None
    waited_ms: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Numbers of calls by bucket, and the sum of their times."""

    ends_s: Sequence[float]
    counts: Sequence[int]
    sum_s: float


NO_CALLS = Histogram((), (0,), 0.0)


def fields_of(calls: Iterable[CallTimes | None]) -> list[str | int]:
    """Return what these calls add to the account's hash: a field and an amount, for each field in turn."""
    found: Counter[str] = Counter()
    for call in calls:
        if call is None:
            continue
        for name, ends_s, took_ms in (("duration", DURATION_S, call.duration_ms), ("wait", WAIT_S, call.waited_ms)):
            if took_ms is not None:
                found[f"{name} {bisect_left(ends_s, took_ms / 1000)}"] += 1
                found[f"{name} ms"] += took_ms
    return [each for item in found.items() if item[1] for each in item]


def histograms_of(fields: Mapping[str, int]) -> tuple[Histogram, Histogram]:
    """Return the durations and the waits in an account's hash."""
    duration, wait = (
        Histogram(
            ends_s,
            [fields.get(f"{name} {place}", 0) for place in range(len(ends_s) + 1)],
            fields.get(f"{name} ms", 0) / 1000,
        )
        for name, ends_s in (("duration", DURATION_S), ("wait", WAIT_S))
    )
    return duration, wait
