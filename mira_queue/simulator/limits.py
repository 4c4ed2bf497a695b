"""Limits of one account, as they were observed at Mira, and of the server. The clock is passed in, in seconds.

Order of the checks: balance (402), tokens of the month, rate, tokens, daily quota, concurrency (429). `limiters.py`
counts the rate. In Mira's sliding log, **a rejected call counts too**: a client that retries all the time stays locked
out. A call without balance is not counted. In the real backend, a call that concurrency rejects uses up the quota.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Mapping
from typing import Literal, NamedTuple

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limiters import Kind, Limiter, Rate, limiter
from mira_queue.simulator.wait_headers import Standing, Unit

Limit = Literal["balance", "month", "rate", "tokens", "quota", "concurrency", "busy"]


class Verdict(NamedTuple):
    """Verdict on a call: the limit that it hit (None: it is admitted).

    `wait_s` is the wait that the server states, infinite for "never". `delay_s` is how long an admitted call waits in
    a leaky bucket.
    """

    limit: Limit | None
    wait_s: float = 0.0
    delay_s: float = 0.0


class Rates:
    """Usage of the rates that some models share."""

    def __init__(self, seed: int) -> None:
        self.calls: Limiter | None = None
        self.tokens: Limiter | None = None
        self._kinds: tuple[Kind, Kind] | None = None
        self._next_other_s = -math.inf
        self._random = random.Random(seed)

    def configure(self, config: SimulatorConfig) -> None:
        """Change the limits. What was used stays used, unless the kind of limiter changes."""
        if self._kinds != (config.limiter, config.token_limiter):
            self.calls = self.tokens = None
            self._kinds = (config.limiter, config.token_limiter)
        rate = Rate(config.rate, config.rate_window_s, config.burst) if config.rate else None
        self.calls = _with_rate(self.calls, config.limiter, rate)
        tokens = Rate(config.token_rate, config.token_window_s) if config.token_rate else None
        self.tokens = _with_rate(self.tokens, config.token_limiter, tokens)

    def admit(self, config: SimulatorConfig, now: float, tokens: int) -> Verdict:
        """Check the rate, then the tokens. A call that only its tokens exceed is counted as a call."""
        delay_s = 0.0
        if self.calls is not None:
            self._add_other_calls(self.calls, config, now)
            delay = self.calls.admit(now)
            if delay is None:
                return Verdict("rate", self._wait_s(self.calls, config, now))
            delay_s = delay
        if self.tokens is not None:
            delay = self.tokens.admit(now, tokens)
            if delay is None:
                return Verdict("tokens", self.tokens.wait_s(now, tokens))
            delay_s = max(delay_s, delay)
        return Verdict(None, delay_s=delay_s)

    def _wait_s(self, calls: Limiter, config: SimulatorConfig, now: float) -> float:
        if config.rate_retry_after_s is None and config.limiter != "sliding-log":
            return calls.wait_s(now)
        return stated_wait_s(config, "rate")

    def _add_other_calls(self, calls: Limiter, config: SimulatorConfig, now: float) -> None:
        """Count the calls that other clients have made by now."""
        per_s = config.other_calls
        if not per_s:
            return
        at_s = max(self._next_other_s, now - 2 * calls.rate.window_s)
        while at_s <= now:
            calls.admit(at_s)
            at_s += self._random.expovariate(per_s) if config.other_calls_at == "random" else 1 / per_s
        self._next_other_s = at_s

    def standings(self, now: float) -> list[Standing]:
        limiters: dict[Unit, Limiter | None] = {"requests": self.calls, "tokens": self.tokens}
        return [
            Standing(unit, used.rate.amount, used.rate.window_s, used.remaining(now), used.reset_s(now))
            for unit, used in limiters.items()
            if used is not None
        ]


def _with_rate(known: Limiter | None, kind: Kind, rate: Rate | None) -> Limiter | None:
    if rate is None:
        return None
    if known is None:
        return limiter(kind, rate)
    known.rate = rate
    return known


def stated_wait_s(config: SimulatorConfig, limit: Limit) -> float:
    """Return the wait that a server states for a limit without computing the true one."""
    if limit == "rate" and config.rate_retry_after_s is None:
        return config.rate_window_s
    return float(getattr(config, f"{limit}_retry_after_s"))  # each other limit has such a field


class AccountLimits:
    """Usage of one account. It stays used when the configuration changes."""

    def __init__(self, calls_in_flight: Mapping[str, int] | None = None) -> None:
        self.calls_in_flight = Counter(calls_in_flight)  # by model
        self._config: SimulatorConfig | None = None
        self._rates: dict[str, Rates] = {}  # by model, if models have limits of their own; else of all: ""
        self._day = 0
        self._used_today = 0
        self.max_in_flight = self.in_flight
        self.leaked = 0
        self._admitted_s = -math.inf
        self.spent_calls = 0
        self.spent_tokens = 0

    @property
    def in_flight(self) -> int:
        return self.calls_in_flight.total()

    def admit(self, config: SimulatorConfig, now: float, tokens: int = 0, model: str = "") -> Verdict:
        """Return whether the call is admitted. If it is, it is in flight until `release()`."""
        if _used_up(config.balance_calls, self.spent_calls) or _used_up(config.balance_tokens, self.spent_tokens):
            return Verdict("balance")
        if _used_up(config.month_tokens, self.spent_tokens):
            return Verdict("month", config.month_retry_after_s)
        is_limited = not config.limited_models or model in config.limited_models
        verdict = self._rates_of(config, model).admit(config, now, tokens) if is_limited else Verdict(None)
        if verdict.limit:
            return verdict
        if config.quota is not None:
            day = int(now // config.day_s)
            if day != self._day:
                self._day, self._used_today = day, 0
            if self._used_today >= config.quota:
                return Verdict("quota", config.quota_retry_after_s)
        if config.backend == "mira":
            self._used_today += 1
        if is_limited and config.concurrency is not None:
            in_flight = self.calls_in_flight[model] if config.limited_models else self.in_flight
            if config.leak_s is not None and now - self._admitted_s >= config.leak_s:
                self.leaked = 0
            if in_flight + self.leaked >= config.concurrency:
                return Verdict("concurrency", config.concurrency_retry_after_s)
        if config.backend != "mira":
            self._used_today += 1
        self._admitted_s = now
        self.calls_in_flight[model] += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return verdict

    def release(self, model: str = "") -> None:
        """End an admitted call: it is answered, or its client has disconnected."""
        self.calls_in_flight[model] -= 1

    def leak(self, config: SimulatorConfig) -> None:
        """Leave the slot of an admitted call in use, if slots leak."""
        self.leaked += config.leak_s is not None

    def charge(self, tokens: int) -> None:
        """Bill an answer, whether it arrives or not."""
        self.spent_calls += 1
        self.spent_tokens += tokens

    def standings(self, config: SimulatorConfig, now: float, model: str = "") -> list[Standing]:
        """Return where the account stands at the rates of this model."""
        if config.limited_models and model not in config.limited_models:
            return []
        return self._rates_of(config, model).standings(now)

    def in_window(self, config: SimulatorConfig, now: float) -> int:
        """Return the number of calls in the window of a log, or used of another limiter, of all models."""
        calls = [rates.calls for rates in self._rates.values() if rates.calls is not None]
        return round(sum(used.used(now) for used in calls))

    def _rates_of(self, config: SimulatorConfig, model: str) -> Rates:
        if config is not self._config:
            self._config = config
            for rates in self._rates.values():
                rates.configure(config)
        scope = model if config.limited_models else ""
        if scope not in self._rates:
            self._rates[scope] = Rates(config.seed)
            self._rates[scope].configure(config)
        return self._rates[scope]


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

    async def acquire(self, config: SimulatorConfig, max_wait_s: float) -> bool:
        """Return True with a slot that is held until `release()`. Return False if the queue or the wait is too long."""
        if config.capacity is None or self._busy < config.capacity:
            self._busy += 1
            return True
        if len(self._waiting) >= config.queue_size:
            return False
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait([turn], timeout=max_wait_s)
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
