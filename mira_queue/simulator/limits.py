"""Limits of one account, as they were observed at Mira, and of the server. The clock is passed in, in seconds.

Order of the checks: balance (402), rate, daily quota, concurrency (429). The rate has a sliding window.
**A rejected call is in it too**: a client that retries all the time stays locked out. A call without balance is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Literal

from mira_queue.simulator.config import SimulatorConfig

Limit = Literal["balance", "rate", "quota", "concurrency", "busy"]


class AccountLimits:
    """Usage of one account. It stays used when the configuration changes."""

    def __init__(self, in_flight: int = 0) -> None:
        self._window: deque[float] = deque()
        self._day = 0
        self._used_today = 0
        self.in_flight = self.max_in_flight = in_flight
        self.spent_calls = 0
        self.spent_tokens = 0

    def admit(self, config: SimulatorConfig, now: float) -> Limit | None:
        """Return None if the call is admitted: it is in flight until `release()`. Otherwise return the limit it hit."""
        if _used_up(config.balance_calls, self.spent_calls) or _used_up(config.balance_tokens, self.spent_tokens):
            return "balance"
        if config.rate is not None:
            full = self.in_window(config, now) >= config.rate
            self._window.append(now)
            if full:
                return "rate"
        if config.quota is not None:
            day = int(now // config.day_s)
            if day != self._day:
                self._day, self._used_today = day, 0
            if self._used_today >= config.quota:
                return "quota"
        if config.concurrency is not None and self.in_flight >= config.concurrency:
            return "concurrency"
        self._used_today += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return None

    def release(self) -> None:
        """End an admitted call: it is answered, or its client has disconnected."""
        self.in_flight -= 1

    def charge(self, tokens: int) -> None:
        """Bill an answer, whether it arrives or not."""
        self.spent_calls += 1
        self.spent_tokens += tokens

    def in_window(self, config: SimulatorConfig, now: float) -> int:
        """Return the number of calls in the window, rejected ones included. Each leaves it exactly one window later."""
        window = self._window
        while window and now - window[0] >= config.rate_window_s:
            window.popleft()
        return len(window)


def _used_up(balance: int | None, spent: int) -> bool:
    return balance is not None and spent >= balance


class RetryAfterLog:
    """Retry-Afters that were sent to an account, and a check whether a call has honored them.

    A call that arrives within `grace_s` after a Retry-After was already on its way: it has `crossed` it. It is
    not early unless it is early for an older one too.
    """

    def __init__(self) -> None:
        self._known_until = float("-inf")
        self._recent: deque[tuple[float, float]] = deque()
        self.until = float("-inf")  # the latest time that a Retry-After has named

    def add(self, now: float, retry_after_s: float) -> None:
        until = now + retry_after_s
        self._recent.append((now, until))
        self.until = max(self.until, until)

    def check(self, now: float, grace_s: float) -> Literal["early", "crossed"] | None:
        """Return whether a call that arrives now is early, has crossed a Retry-After, or is on time (None)."""
        if now >= self.until:
            self._recent.clear()
            return None
        recent = self._recent
        while recent and recent[0][0] + grace_s <= now:
            self._known_until = max(self._known_until, recent.popleft()[1])
        return "early" if now < self._known_until else "crossed"


class Capacity:
    """Slots of the server for calls of all accounts, and a queue of calls that wait for one.

    The configuration may change between two calls.
    """

    def __init__(self) -> None:
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def acquire(self, config: SimulatorConfig) -> bool:
        """Return True with a slot that is held until `release()`. Return False if the queue or the wait is too long."""
        if config.capacity is None or self._busy < config.capacity:
            self._busy += 1
            return True
        if len(self._waiting) >= config.queue_size:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=config.queue_wait_s)
        except asyncio.CancelledError:
            if turn.done():
                self.release()  # released to this call while its client disconnected: pass it on
            raise
        finally:
            if not turn.done():
                self._waiting.remove(turn)
        return turn.done()

    def release(self) -> None:
        """Pass the slot on to the first call in the queue."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
        else:
            self._busy -= 1
