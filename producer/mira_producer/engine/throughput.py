"""Throughput: now, on average, and over the period that a forecast needs. Memory is constant."""

from __future__ import annotations

import math
from collections import deque

# The period of the throughput "now".
WINDOW_S = 60.0
# Marks per window. Each level's window is twice as long as the one before. The last one covers a year.
MARKS = 60
LEVELS = 20
# Longer than the pause between two writes of answers that arrive steadily.
SILENCE_S = 3.0
# A forecast looks back at least a quarter as far as it looks ahead. An account that allows a thousand calls in the
# first ten seconds of each hour does not finish ten thousand calls in two minutes.
AHEAD = 4.0


class Throughput:
    """A count over time. Every method gets the time, in seconds of a monotonic clock."""

    def __init__(self, now_s: float) -> None:
        self.count = 0
        self._began_s = self._added_s = now_s
        # (time, count at that time). The first level has one mark per second.
        self._levels = [deque([(now_s, 0)], maxlen=MARKS + 2) for _ in range(LEVELS)]

    def add(self, number: int, now_s: float) -> None:
        self._mark(now_s)
        self.count += number
        self._added_s = now_s

    def now(self, now_s: float) -> float:
        """Return the rate per second over the last minute, but after a silence, at most one per that silence."""
        silence_s = now_s - self._added_s
        return min(self._rate(0, now_s), 1 / silence_s if silence_s > SILENCE_S else math.inf)

    def average(self, now_s: float) -> float:
        """Return the rate per second since the beginning."""
        return self.count / max(now_s - self._began_s, 1e-9)

    def seconds_for(self, number: int, now_s: float) -> float | None:
        """Return the seconds until `number` more are counted, at the recent rate. None if nothing was counted yet."""
        for level in range(LEVELS):
            rate = self._rate(level, now_s)
            window_s = WINDOW_S * 2**level
            if rate and (number / rate <= AHEAD * window_s or window_s >= now_s - self._began_s):
                return number / rate
        return None

    def _rate(self, level: int, now_s: float) -> float:
        self._mark(now_s)
        marks = self._levels[level]
        since_s = now_s - WINDOW_S * 2**level
        when_s, count = next((mark for mark in reversed(marks) if mark[0] <= since_s), marks[0])
        return (self.count - count) / max(now_s - when_s, 1e-9)

    def _mark(self, now_s: float) -> None:
        for level, marks in enumerate(self._levels):
            if now_s - marks[-1][0] < WINDOW_S * 2**level / MARKS:
                return
            marks.append((now_s, self.count))
