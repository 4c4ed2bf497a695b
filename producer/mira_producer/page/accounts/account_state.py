"""The state of an account as people read it: how far its limits are used, and why its calls wait. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mira_producer.engine.wait_reason import reason_of
from mira_producer.text import duration, plural
from mira_queue.contract.batch import Kind
from mira_queue.contract.outcome import Failure
from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.ledger.account_details import AccountDetails
from mira_queue.ledger.queue_stats import AccountStats
from mira_queue.ledger.script_runner import in_ms

Mark = Literal["", "good", "bad", "warn", "active"]

_ADVICE: dict[Kind, str] = {
    "worker": "Start a worker for the account: mira-queue worker, or mira-queue serve --workers 1.",
    "faults": "The queue checks the service automatically, and resumes when it responds.",
}
REJECTED_ADVICE = (
    "Fix the account (its balance, plan, or key), and then check it here. Batches that have paused can be resumed then."
)
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Use:
    """How far a limit is used. `limit` is 0 if none is known, and `note` says where it comes from."""

    used: int
    limit: int
    note: str

    @property
    def shown(self) -> int:
        """The used part of the limit, for a bar. Calls that were accepted before the limit was lowered fill the bar."""
        return min(self.used, self.limit)


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account as it is shown. `reason` says why its jobs wait, `until_ms` until when, and `advice` what to do.

    `rejections` are errors that calls get now, with the model, or an empty string for every model.
    """

    id: str
    base: str
    words: str
    mark: Mark
    in_flight: Use
    rate: Use
    window: str
    open_jobs: int
    queued: int
    leased: int
    resting: int
    workers: int
    calls_sent: int
    rate_limited: int
    reason: str = ""
    kind: Kind = ""
    until_ms: float = 0.0
    message: str = ""
    advice: str = ""
    rejections: Sequence[tuple[str, Failure]] = ()

    @property
    def is_held(self) -> bool:
        """Return True if a check of the account could end its wait."""
        return bool(self.rejections) or self.kind == "faults" or (self.mark == "bad" and bool(self.until_ms))


def state_of(
    stats: AccountStats, details: AccountDetails, configured: ConfiguredLimits, learned_since_ms: int = 0
) -> AccountState:
    """Return the state of an account."""
    pace = stats.pace
    queued = sum(stats.queued.values())
    reason = reason_of(pace, stats.open_jobs, stats.waiting, configured)
    words, mark = _breaker_words(stats, details)
    until_ms = pace.now_ms + in_ms(reason.wait) if reason.wait else 0.0
    return AccountState(
        id=pace.account,
        base=pace.base,
        words=words,
        mark=mark,
        in_flight=_in_flight(stats, configured),
        rate=_rate(stats, details, configured),
        window=_window_text(details.window_ms),
        open_jobs=stats.open_jobs,
        queued=queued,
        leased=stats.leased,
        resting=stats.waiting,
        workers=pace.workers,
        calls_sent=pace.counts.sent,
        rate_limited=pace.counts.rate_limited,
        reason=reason.words,
        kind=reason.kind,
        until_ms=until_ms,
        message=reason.message,
        advice=_ADVICE.get(reason.kind, ""),
        rejections=tuple(sorted(details.rejections.items())),
    )


def _breaker_words(stats: AccountStats, details: AccountDetails) -> tuple[str, Mark]:
    """Return the state of the circuit breaker, or that the account is rejected, which is worse."""
    pace = stats.pace
    if "" in details.rejections:
        return "account rejected", "bad"
    if pace.breaker == "faults":
        return ("circuit breaker open: service unavailable" if pace.open_for else "circuit breaker half-open"), "bad"
    if pace.open_for:
        return "circuit breaker open: rate-limited", "warn"
    if pace.breaker:
        return "circuit breaker half-open", "warn"
    return "circuit breaker closed", "good"


def _in_flight(stats: AccountStats, configured: ConfiguredLimits) -> Use:
    estimate = stats.pace.estimate
    learned = estimate.in_flight
    ceiling = configured.in_flight
    if learned and not (ceiling and ceiling < learned.allowed):
        probing = f", trying {learned.allowed:,}" if learned.step else ""
        return Use(stats.pace.in_flight, learned.allowed, f"{_source(learned.confirmations)}{probing}")
    if ceiling:
        return Use(stats.pace.in_flight, ceiling, "configured limit")
    return Use(stats.pace.in_flight, estimate.start, "no limit known; this many so far")


def _rate(stats: AccountStats, details: AccountDetails, configured: ConfiguredLimits) -> Use:
    learned = stats.pace.estimate.rate
    if learned:
        probing = f", trying {learned.allowed:,}" if learned.step else ""
        return Use(details.calls, learned.allowed, f"{_source(learned.confirmations)}{probing}")
    if configured.rate and configured.window_ms == details.window_ms:
        return Use(details.calls, configured.rate, "configured limit")
    if configured.rate:
        return Use(details.calls, 0, f"configured limit: {configured.rate:,} per {_window_text(configured.window_ms)}")
    return Use(details.calls, 0, "no limit known")


def _source(confirmations: int) -> str:
    return f"learned limit, confirmed {confirmations:,}x" if confirmations else "expected limit"


def _window_text(window_ms: int) -> str:
    return f"{window_ms / 1000:g} s" if window_ms < 120_000 else duration(window_ms / 1000)


def open_text(state: AccountState) -> str:
    """Return what is open, by where it waits."""
    parts = [
        f"{state.queued:,} queued" if state.queued else "",
        f"{state.leased:,} at workers" if state.leased else "",
        f"{state.resting:,} waiting for a retry" if state.resting else "",
    ]
    where = ", ".join(part for part in parts if part)
    return f"{plural(state.open_jobs, 'open job')}: {where}" if where else "no open jobs"
