"""Rate limiters of every kind that servers have. Each counts calls, or the tokens of calls. Pure.

The clock is passed in, in seconds. It never goes back.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["sliding-log", "sliding-window", "fixed-window", "token-bucket", "leaky-bucket"]
TINY = 1e-9
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Rate:
    """`amount` calls or tokens per `window_s` seconds. `burst` is the size of a bucket (None: see the buckets)."""

    amount: float
    window_s: float
    burst: float | None = None

    @property
    def interval_s(self) -> float:
        """Time from one call to the next, if they are evenly spaced."""
        return self.window_s / self.amount


class Limiter(ABC):
    """Usage of one rate. `rate` may change between two calls. What was used stays used."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate

    @abstractmethod
    def admit(self, now: float, cost: float = 1.0) -> float | None:
        """Admit a call: return how long the server delays it, in seconds. Return None if it is rejected."""

    @abstractmethod
    def wait_s(self, now: float, cost: float = 1.0) -> float:
        """Return the time until such a call is admitted if no other call comes first. It is infinite for "never"."""

    @abstractmethod
    def used(self, now: float) -> float:
        """Return how much counts as used now."""

    @property
    def size(self) -> float:
        """Largest cost of a call."""
        return self.rate.amount

    def remaining(self, now: float) -> float:
        """Return how much is admitted now."""
        return max(0.0, self.size - self.used(now))

    @abstractmethod
    def reset_s(self, now: float) -> float:
        """Return the time until nothing counts as used."""


class SlidingLog(Limiter):
    """Amount in any window. With `counts_rejected`, a client that keeps sending calls stays locked out."""

    def __init__(self, rate: Rate, *, counts_rejected: bool) -> None:
        super().__init__(rate)
        self.counts_rejected = counts_rejected
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def admit(self, now: float, cost: float = 1.0) -> float | None:
        fits = self.used(now) + cost <= self.rate.amount
        if fits or self.counts_rejected:
            self._log.append((now, cost))
            self._used += cost
        return 0.0 if fits else None

    def used(self, now: float) -> float:
        # Each call leaves the window exactly one window later.
        log = self._log
        while log and now - log[0][0] >= self.rate.window_s:
            self._used -= log.popleft()[1]
        return self._used

    def wait_s(self, now: float, cost: float = 1.0) -> float:
        if cost > self.rate.amount:
            return math.inf
        excess = self.used(now) + cost - self.rate.amount
        for at_s, used in self._log:
            if excess <= 0:
                break
            excess -= used
            wait_s = self.rate.window_s - (now - at_s)
            if excess <= 0:
                return wait_s
        return 0.0

    def reset_s(self, now: float) -> float:
        return self.rate.window_s - (now - self._log[-1][0]) if self.used(now) else 0.0


class CountingLimiter(Limiter):
    """Limiter that counts what is used, and admits what remains without a delay."""

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._used = 0.0

    def admit(self, now: float, cost: float = 1.0) -> float | None:
        if cost > self.remaining(now):
            return None
        self._used += cost
        return 0.0


class FixedWindow(CountingLimiter):
    """Amount in each window. Windows begin at multiples of their length."""

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._began_s = -math.inf

    def wait_s(self, now: float, cost: float = 1.0) -> float:
        if cost > self.rate.amount:
            return math.inf
        return 0.0 if cost <= self.remaining(now) else self.reset_s(now)

    def used(self, now: float) -> float:
        began_s = now // self.rate.window_s * self.rate.window_s
        if began_s != self._began_s:
            self._began_s, self._used = began_s, 0.0
        return self._used

    def reset_s(self, now: float) -> float:
        return self.rate.window_s - now % self.rate.window_s


class TokenBucket(CountingLimiter):
    """Bucket that holds `burst` (by default the amount of a window). It starts full and fills up evenly."""

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._at_s = -math.inf

    @property
    def size(self) -> float:
        return self.rate.amount if self.rate.burst is None else self.rate.burst

    def wait_s(self, now: float, cost: float = 1.0) -> float:
        if cost > self.size:
            return math.inf
        return max(0.0, cost - self.remaining(now)) * self.rate.interval_s

    def used(self, now: float) -> float:
        if self._used:
            self._used = max(0.0, self._used - (now - self._at_s) / self.rate.interval_s)
        self._at_s = now
        return self._used

    def reset_s(self, now: float) -> float:
        return self.used(now) * self.rate.interval_s


class LeakyBucket(Limiter):
    """Calls leave it evenly spaced. A call that comes sooner waits in it, if not more than `burst` (0) do."""

    def __init__(self, rate: Rate) -> None:
        super().__init__(rate)
        self._free_s = -math.inf  # when the next call may leave

    @property
    def max_delay_s(self) -> float:
        """Maximum wait in the bucket."""
        return (self.rate.burst or 0.0) * self.rate.interval_s

    def admit(self, now: float, cost: float = 1.0) -> float | None:
        if self.wait_s(now) > 0:
            return None
        leaves_s = max(now, self._free_s)
        self._free_s = leaves_s + cost * self.rate.interval_s
        return leaves_s - now

    def wait_s(self, now: float, cost: float = 1.0) -> float:
        return max(0.0, self._free_s - now - self.max_delay_s)

    def used(self, now: float) -> float:
        return self.reset_s(now) / self.rate.interval_s

    def remaining(self, now: float) -> float:
        if self.wait_s(now) > 0:
            return 0.0
        # An error of floating point must not cost a whole call.
        return 1 + math.floor((self.max_delay_s - self.reset_s(now)) / self.rate.interval_s + TINY)

    def reset_s(self, now: float) -> float:
        return max(0.0, self._free_s - now)


def limiter(kind: Kind, rate: Rate) -> Limiter:
    """Return a limiter of this kind of which nothing is used."""
    match kind:
        case "sliding-log":
            return SlidingLog(rate, counts_rejected=True)
        case "sliding-window":
            return SlidingLog(rate, counts_rejected=False)
        case "fixed-window":
            return FixedWindow(rate)
        case "token-bucket":
            return TokenBucket(rate)
        case "leaky-bucket":
            return LeakyBucket(rate)
