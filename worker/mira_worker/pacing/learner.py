"""Learn the account's estimate from calls. All processes share the estimate, and every change is logged."""

from __future__ import annotations

from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState, Permit
from mira_queue.ledger.ledger import Ledger
from mira_worker.pacing import policy


class Learner:
    """Applies the policy to an account's estimate. If two processes learn at the same time, the second one repeats."""

    def __init__(self, ledger: Ledger, account: str, configured: ConfiguredLimits, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._account = account
        self._configured = configured
        self._log = log
        # A copy, so that a wait costs no round trip while nothing changes.
        self._version, self._estimate = -1, Estimate()

    def grow(self, state: PaceState) -> bool:
        """Raise the estimate if the calls of this state justify it. Return True if more calls may start now."""
        if state.reason not in ("in_flight", "rate"):
            return False
        if state.version != self._version:
            self._version, estimate = self._ledger.estimate(self._account)
            self._estimate = policy.informed(estimate, self._configured)
        # Another thread may learn in the meantime: the stored estimate must follow from the one that was read.
        version, known = self._version, self._estimate
        grown = policy.grown(known, state)
        return grown is not None and self._store(version, grown, known)

    def learn(self, call: str, permit: Permit, retry_after: timedelta, now_ms: int | None = None) -> None:
        """Learn from a rate-limited call."""
        while True:
            version, estimate, hit = self._ledger.record_rate_limit(self._account, call, permit, retry_after, now_ms)
            known = policy.informed(estimate, self._configured)
            learned = policy.after_rate_limit(known, hit)
            if learned == known or self._store(version, learned, known):
                return

    def _store(self, version: int, estimate: Estimate, before: Estimate) -> bool:
        stored = self._ledger.store_estimate(self._account, version, estimate)
        if not stored:
            self._version = -1
            return False
        self._version, self._estimate = stored, estimate
        self._log_change("calls", estimate.rate, before.rate)
        self._log_change("in_flight", estimate.in_flight, before.in_flight)
        return True

    def _log_change(self, kind: str, limit: Limit | None, before: Limit | None) -> None:
        if limit == before:
            return
        if limit is None:
            self._log.info("limit_dropped", kind=kind)
            return
        self._log.info(
            "limit",
            kind=kind,
            max_calls=limit.max_calls,
            window_s=limit.retry_after_ms / 1000 if kind == "calls" else None,
            trying=limit.allowed if limit.step else None,
            confirmations=limit.confirmations,
        )
