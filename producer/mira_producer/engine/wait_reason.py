"""Why nothing goes on, or not faster: what an account's pace says of it, in words."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.pace import ConfiguredLimits, Limit
from mira_queue.ledger.accounts import PaceView

# A look at the account costs the server four reads: twice a second is enough for people.
LOOK_EVERY_S = 0.5
# Between two jobs no call is in flight either; only when it lasts is there no worker.
PATIENCE_S = 3.0

ZERO = timedelta(0)

Kind = Literal["", "limit", "finding", "faults", "retry", "worker", "server", "paused", "keeper"]


@dataclass(frozen=True, slots=True)
class Reason:
    """What is waited for, and how long at least, where that is known. Nothing is: `kind` and `words` are empty."""

    kind: Kind = ""
    words: str = ""
    wait: timedelta = ZERO

    def __str__(self) -> str:
        if self.wait <= ZERO:
            return self.words
        # Rounded up: "in 0 s" would be a promise that is broken at once.
        seconds = math.ceil(self.wait.total_seconds())
        return f"{self.words}, next{' try' if self.kind == 'faults' else ''} in {duration(seconds)}"


NOTHING = Reason()


def why_waiting(view: PaceView, open_jobs: int, *, resting: int = 0, configured: ConfiguredLimits | None = None) -> str:
    """Why jobs wait, in words; empty: they do not. `resting` of them wait to be tried again; `told` are the user's
    own ceilings.
    """
    return str(reason_of(view, open_jobs, resting=resting, configured=configured))


def reason_of(
    view: PaceView, open_jobs: int, *, resting: int = 0, configured: ConfiguredLimits | None = None
) -> Reason:
    """As `why_waiting`, in parts."""
    configured = configured or ConfiguredLimits()
    if open_jobs <= 0:
        return NOTHING
    if view.breaker == "faults":
        return Reason("faults", "service unreachable" + ("" if view.open_for else ", trying again"), view.open_for)
    if view.open_for or view.breaker:
        return Reason("limit", _closed_words(view) + ("" if view.open_for else ", asking again"), view.open_for)
    if view.waiting:
        return _pacing(view, configured)
    if view.in_flight:
        return NOTHING
    if resting:
        return Reason("retry", f"{resting:,} {'job waits' if resting == 1 else 'jobs wait'} to be tried again")
    return Reason("worker", "waiting for a worker")


def duration(seconds: float) -> str:
    """For people: 8 s, 2 min 5 s, 3 h 20 min, 2 d 4 h."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")
    minutes = round(whole / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h" + (f" {minutes % 60} min" if minutes % 60 else "")
    hours = round(minutes / 60)
    return f"{hours // 24} d" + (f" {hours % 24} h" if hours % 24 else "")


class Watch:
    """Looks at the account now and then; between the looks it repeats itself.

    `read` is a look; `open_jobs` and `resting` are asked at each; `seen` is told of each, with what was found.
    """

    def __init__(
        self,
        read: Callable[[], PaceView],
        open_jobs: Callable[[], int],
        *,
        resting: Callable[[], int] = lambda: 0,
        configured: ConfiguredLimits | None = None,
        seen: Callable[[PaceView, Reason], None] = lambda view, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._open_jobs = open_jobs
        self._resting = resting
        self._told = configured
        self._seen = seen
        self._clock = clock
        self._reason = NOTHING
        self._looked_s = -LOOK_EVERY_S
        self._busy_s = clock()

    def reason(self) -> Reason:
        now_s = self._clock()
        if now_s - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = now_s
            self._reason = self._look(now_s)
        return self._reason

    def wait(self) -> timedelta:
        """How long nothing goes on, at least."""
        return self.reason().wait

    def _look(self, now_s: float) -> Reason:
        try:
            view = self._read()
        except QueueUnavailable:
            return Reason("server", "waiting for the queue's server")
        reason = reason_of(view, self._open_jobs(), resting=self._resting(), configured=self._told)
        if reason.kind not in ("worker", "retry"):
            self._busy_s = now_s
        elif now_s - self._busy_s < PATIENCE_S:
            reason = NOTHING
        self._seen(view, reason)
        return reason


def _closed_words(view: PaceView) -> str:
    """The limit that a refusal was of. Its Retry-After tells: none is longer than what its own limit asks for."""
    estimate = view.estimate
    closed_ms = view.open_for / timedelta(milliseconds=1)
    known = [limit for limit in (estimate.in_flight, estimate.rate) if limit]
    fitting = [limit for limit in known if closed_ms <= limit.retry_after_ms + estimate.margin_ms]
    # With room among the calls in flight, it was not their number that was refused.
    if len(fitting) > 1 and estimate.in_flight and view.in_flight < estimate.in_flight.max_calls:
        fitting.remove(estimate.in_flight)
    if not fitting:
        return "account limit"
    return (
        _rate_words("account", estimate.rate) if fitting[0] is estimate.rate else _flight_words("account", fitting[0])
    )


def _pacing(view: PaceView, configured: ConfiguredLimits) -> Reason:
    """The gate is open, and somebody waits for a place: which ones are taken?

    Where an answer frees the next place, nobody knows when that will be; where a time does, the wait is known.
    """
    rate, in_flight = view.estimate.rate, view.estimate.in_flight
    if configured.in_flight and view.in_flight >= configured.in_flight:
        return Reason("limit", f"your limit: {configured.in_flight:,} at a time")
    if in_flight and view.in_flight >= in_flight.allowed:
        return Reason("limit", _flight_words("account", in_flight))
    told_per_ms = configured.rate / configured.window_ms if configured.rate and configured.window_ms else None
    if rate and (told_per_ms is None or rate.allowed / max(1, rate.retry_after_ms) <= told_per_ms):
        return Reason("limit", _rate_words("account", rate), view.next_in)
    if told_per_ms:
        return Reason("limit", f"your limit: {configured.rate:,} in {_span(configured.window_ms)}", view.next_in)
    if configured.tokens:
        return Reason(
            "limit", f"your limit: {configured.tokens:,} tokens in {_span(configured.tokens_window_ms)}", view.next_in
        )
    return Reason("finding", f"finding the account's limit: {view.in_flight:,} at a time so far")


def _rate_words(whose: str, limit: Limit) -> str:
    return f"{whose} limit: {limit.max_calls:,} in {_span(limit.retry_after_ms)}"


def _flight_words(whose: str, limit: Limit) -> str:
    return f"{whose} limit: {limit.max_calls:,} at a time"


def _span(duration_ms: int) -> str:
    """As people write limits: 60 s, 1 h."""
    return f"{duration_ms / 1000:g} s" if duration_ms < 120_000 else duration(duration_ms / 1000)
