"""Why jobs wait: the reason that an account's pace gives, and the one wording for each kind of wait."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from mira_producer.text import duration, plural
from mira_queue.contract.batch import Kind, Reason
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.ledger.accounts import PaceView

# Checking the account costs the server four reads. Twice per second is enough for people.
CHECK_EVERY_S = 0.5
# Between two jobs, no call is in flight either. There is no worker only if that lasts.
PATIENCE_S = 3.0

ZERO = timedelta(0)
CONFIGURED = "configured limit"

# The one wording for each kind of wait: on the terminal, in the batch object, and on the report page.
LABELS: dict[Kind, str] = {
    "limit": "account limit",
    "learning": "learning the account's limit",
    "faults": "service unavailable",
    "server": "queue server unavailable",
    "worker": "waiting for a worker",
    "retry": "waiting for a retry",
    "paused": "paused",
    "supervisor": "no supervisor was running",
}

NOTHING = Reason()
NO_LIMITS = ConfiguredLimits()


def reason_text(reason: Reason) -> str:
    """Return the reason with the time until the next call, if that is known."""
    if reason.wait <= ZERO:
        return reason.words
    # Rounded up: "in 0 s" would be a promise that is broken immediately.
    seconds = math.ceil(reason.wait.total_seconds())
    return f"{reason.words}, next {'probe' if reason.kind == 'faults' else 'call'} in {duration(seconds)}"


def message_text(reason: Reason) -> str:
    """Return what the server said, or why it was not reached, or an empty string."""
    return f"cause: {reason.message}" if reason.message else ""


def reason_of(view: PaceView, open_jobs: int, resting: int = 0, configured: ConfiguredLimits = NO_LIMITS) -> Reason:
    """Return why jobs wait. `resting` counts the open jobs that wait for a retry."""
    if open_jobs <= 0:
        return NOTHING
    if view.breaker or view.open_for:
        kind: Kind = "faults" if view.breaker == "faults" else "limit"
        words = LABELS[kind] if kind == "faults" else _limit_reached(view)
        return Reason(kind, words + ("" if view.open_for else ", probing"), view.open_for, view.message)
    if view.waiting:
        return _pacing(view, configured)
    if view.in_flight:
        return NOTHING
    if resting:
        return Reason("retry", f"{plural(resting, 'job')} {LABELS['retry']}", message=view.message)
    return Reason("worker", LABELS["worker"] if view.workers else f"no worker serves account {view.account}")


@dataclass(slots=True)
class Watch:
    """Watch of an account: checks why jobs wait, at most twice per second, and repeats the last reason in between.

    Each check calls `read`, `open_jobs`, and `resting`, and passes what it found to `seen`.
    """

    read: Callable[[], PaceView]
    open_jobs: Callable[[], int]
    resting: Callable[[], int] = lambda: 0
    configured: ConfiguredLimits = NO_LIMITS
    seen: Callable[[PaceView, Reason], None] = lambda view, reason: None
    clock: Callable[[], float] = time.monotonic
    _reason: Reason = field(default=NOTHING, init=False)
    _checked_s: float = field(default=-CHECK_EVERY_S, init=False)
    _busy_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._busy_s = self.clock()

    def reason(self) -> Reason:
        now_s = self.clock()
        if now_s - self._checked_s >= CHECK_EVERY_S:
            self._checked_s = now_s
            self._reason = self._check(now_s)
        return self._reason

    def _check(self, now_s: float) -> Reason:
        try:
            view = self.read()
        except QueueUnavailable:
            return Reason("server", LABELS["server"])
        reason = reason_of(view, self.open_jobs(), self.resting(), self.configured)
        if reason.kind not in ("worker", "retry"):
            self._busy_s = now_s
        elif now_s - self._busy_s < PATIENCE_S:
            reason = NOTHING
        self.seen(view, reason)
        return reason


def _limit_reached(view: PaceView) -> str:
    """Return the limit that a 429 belongs to. No Retry-After is longer than the window of its own limit."""
    estimate = view.estimate
    closed_ms = view.open_for / timedelta(milliseconds=1)
    rate, in_flight = (
        limit if limit and closed_ms <= limit.retry_after_ms + estimate.margin_ms else None
        for limit in (estimate.rate, estimate.in_flight)
    )
    # With a free slot, the 429 did not come from the concurrency limit.
    if in_flight and not (rate and view.in_flight < in_flight.max_calls):
        return _in_flight_text(in_flight.max_calls)
    return _rate_text(rate.max_calls, rate.retry_after_ms) if rate else LABELS["limit"]


def _pacing(view: PaceView, configured: ConfiguredLimits) -> Reason:
    """Return which limit a waiting worker has reached while the circuit breaker is closed.

    The wait is known for a rate limit, whose window moves. It is not known for a concurrency limit, since a response
    frees the slot.
    """
    rate, in_flight = view.estimate.rate, view.estimate.in_flight
    if configured.in_flight and view.in_flight >= configured.in_flight:
        return Reason("limit", _in_flight_text(configured.in_flight, CONFIGURED))
    if in_flight and view.in_flight >= in_flight.allowed:
        return Reason("limit", _in_flight_text(in_flight.max_calls))
    per_ms = configured.rate / configured.window_ms if configured.rate and configured.window_ms else None
    if rate and (per_ms is None or rate.allowed / max(1, rate.retry_after_ms) <= per_ms):
        return Reason("limit", _rate_text(rate.max_calls, rate.retry_after_ms), view.next_in)
    if per_ms:
        return Reason("limit", _rate_text(configured.rate, configured.window_ms, CONFIGURED), view.next_in)
    if configured.tokens:
        tokens = _rate_text(configured.tokens, configured.tokens_window_ms, CONFIGURED, " tokens")
        return Reason("limit", tokens, view.next_in)
    return Reason("learning", f"{LABELS['learning']}: {view.in_flight:,} in flight so far")


def _rate_text(most: int, window_ms: int, limit: str = LABELS["limit"], unit: str = "") -> str:
    """Return a rate limit as people write it: 60 per 60 s, 1,000 per 1 h."""
    window = f"{window_ms / 1000:g} s" if window_ms < 120_000 else duration(window_ms / 1000)
    return f"{limit}: {most:,}{unit} per {window}"


def _in_flight_text(most: int, limit: str = LABELS["limit"]) -> str:
    return f"{limit}: {most:,} in flight"
