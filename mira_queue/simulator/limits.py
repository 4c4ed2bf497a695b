"""The limits of one account, as Mira was observed to keep them. Pure: the clock is passed in, in seconds.

Checked in this order: balance (402), rate, daily quota, concurrency (429). The rate log is sliding, and **a refused
call is in it too**: one that knocks all the time stays locked out. A call that is out of balance never reaches the log.
"""

from __future__ import annotations

from collections import deque
from typing import Literal

from mira_queue.simulator.config import SimulatorConfig

Refusal = Literal["balance", "rate", "quota", "concurrency", "busy"]


class AccountLimits:
    """What one account has used. `config` may be another at each call: what was used stays used."""

    __slots__ = ("_day", "_log", "_used_today", "in_flight", "max_in_flight", "spent_calls", "spent_tokens")

    def __init__(self) -> None:
        self._log: deque[float] = deque()
        self._day = 0
        self._used_today = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.spent_calls = 0
        self.spent_tokens = 0

    def forget(self) -> None:
        """Everything but the calls that are in flight."""
        in_flight = self.in_flight
        self.__init__()  # type: ignore[misc]
        self.in_flight = self.max_in_flight = in_flight

    def admit(self, config: SimulatorConfig, now: float) -> Refusal | None:
        """None: the call is let in and in flight until `release()`. Otherwise why it is not."""
        if _used_up(config.balance_calls, self.spent_calls) or _used_up(config.balance_tokens, self.spent_tokens):
            return "balance"
        if config.rate is not None:
            full = self.in_window(config, now) >= config.rate
            self._log.append(now)
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
        if self.in_flight > self.max_in_flight:
            self.max_in_flight = self.in_flight
        return None

    def release(self) -> None:
        """The call that was let in is answered, or its client is gone."""
        self.in_flight -= 1

    def charge(self, tokens: int) -> None:
        """An answer was made: it is billed, whether it arrives or not."""
        self.spent_calls += 1
        self.spent_tokens += tokens

    def in_window(self, config: SimulatorConfig, now: float) -> int:
        """How many calls the rate log holds, refused ones included. Each leaves it exactly one window after it came."""
        log = self._log
        while log and now - log[0] >= config.rate_window_s:
            log.popleft()
        return len(log)


def _used_up(balance: int | None, spent: int) -> bool:
    return balance is not None and spent >= balance


class Promises:
    """The Retry-Afters that an account was given, and which calls did not wait for them. Pure.

    A call that arrives within `grace_s` after a refusal may have been on its way when it was sent: it has `crossed` it
    and is not early, unless it broke an older promise as well.
    """

    __slots__ = ("_known_until", "_recent", "until")

    def __init__(self) -> None:
        self._known_until = float("-inf")
        self._recent: deque[tuple[float, float]] = deque()
        self.until = float("-inf")  # the end of the longest promise

    def give(self, now: float, retry_after_s: float) -> None:
        until = now + retry_after_s
        self._recent.append((now, until))
        self.until = max(self.until, until)

    def judge(self, now: float, grace_s: float) -> Literal["early", "crossed"] | None:
        """What a call is that arrives now."""
        if now >= self.until:
            self._recent.clear()
            return None
        recent = self._recent
        while recent and recent[0][0] + grace_s <= now:
            self._known_until = max(self._known_until, recent.popleft()[1])
        return "early" if now < self._known_until else "crossed"
