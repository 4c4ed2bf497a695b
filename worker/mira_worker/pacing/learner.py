"""What is learned from calls becomes the account's belief, shared by every process; every change is logged."""

from __future__ import annotations

from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import PaceState, Permit
from mira_worker.pacing import policy


class Learner:
    """Applies the policy to an account's belief. Of two processes that learn at once, the second learns on top."""

    def __init__(self, ledger: Ledger, account: str, configured: ConfiguredLimits, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._account = account
        self._told = configured
        self._log = log
        # A copy, so that a denial costs no round trip while nothing changes.
        self._version, self._belief = -1, Estimate()

    def grow(self, pace: PaceState) -> bool:
        """Jobs were held back. True: more may go by now, ask again."""
        if pace.reason not in ("in_flight", "rate"):
            return False
        if pace.version != self._version:
            self._version, estimate = self._ledger.estimate(self._account)
            self._belief = policy.informed(estimate, self._told)
        # Another thread may learn in between: what is written must follow from what was read.
        version, known = self._version, self._belief
        denied = policy.PaceState(
            pace.now_ms,
            pace.reason,
            pace.wait_ms,
            pace.at_ceiling,
            pace.peak_in_flight,
            pace.peak_sent,
            pace.quiet_ms,
            pace.rate_bound_ms,
        )
        grown = policy.grown(known, denied)
        return grown is not None and self._believe(version, grown, known)

    def learn(self, call: str, permit: Permit, retry_after: timedelta, now_ms: int | None = None) -> None:
        """A call was refused."""
        while True:
            seen = self._ledger.record_rate_limit(self._account, call, permit, retry_after, now_ms)
            hit = policy.RateLimitHit(
                seen.now_ms,
                permit.at_ms,
                round(retry_after / timedelta(milliseconds=1)),
                seen.in_window,
                seen.in_flight,
                seen.peak_in_flight,
                seen.call_ms,
            )
            known = policy.informed(seen.estimate, self._told)
            learned = policy.refused(known, hit)
            if learned == known or self._believe(seen.version, learned, known):
                return

    def _believe(self, version: int, estimate: Estimate, before: Estimate) -> bool:
        written = self._ledger.store_estimate(self._account, version, estimate)
        if not written:
            self._version = -1
            return False
        self._version, self._belief = written, estimate
        self._tell("calls", estimate.rate, before.rate)
        self._tell("in_flight", estimate.in_flight, before.in_flight)
        return True

    def _tell(self, kind: str, limit: Limit | None, before: Limit | None) -> None:
        if limit == before:
            return
        if limit is None:
            self._log.info("limit_given_up", kind=kind)
            return
        self._log.info(
            "limit",
            kind=kind,
            most=limit.most,
            window_s=limit.retry_after_ms / 1000 if kind == "calls" else None,
            trying=limit.allowed if limit.step else None,
            confirmations=limit.confirmations,
        )
