"""Learn the account's estimate from calls. All processes share the estimate, and every change is logged."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.call_times import CallTimes
from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState, Permit
from mira_queue.ledger.ledger import Ledger
from mira_worker.pacing import growth, policy

# While a probe is due and too few jobs are left for it, they are counted this often, and not for each permit.
CHECK_WORTH_MS = 1000


class Learner:
    """Applies the policy to an account's estimate. If two processes learn at the same time, the second one repeats."""

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        configured: ConfiguredLimits,
        log: FilteringBoundLogger,
        open_jobs: Callable[[], int],
    ) -> None:
        self._ledger = ledger
        self._account = account
        self._configured = configured
        self._log = log
        self._open_jobs = open_jobs
        # A copy, so that a wait costs no round trip while nothing changes.
        self._version, self._estimate = -1, Estimate()
        # When too few jobs were left for a probe, by the limit.
        self._not_worth_ms: dict[str, int] = {}

    def wait_ms(self, state: PaceState) -> int:
        """Raise the estimate if the calls of this state justify it. Return the ms after which to ask again."""
        if not state.version and (expected := growth.expected(self._configured, state.now_ms)):
            return 0 if self._store(0, expected, Estimate()) else state.wait_ms
        if self._grow(state):
            return 0
        return growth.settled_in_ms(self._estimate, state)

    def _grow(self, state: PaceState) -> bool:
        if state.reason not in ("in_flight", "rate"):
            return False
        if state.version != self._version:
            self._version, estimate = self._ledger.estimate(self._account)
            self._estimate = growth.informed(estimate, self._configured)
        # Another thread may learn in the meantime: the stored estimate must follow from the one that was read.
        version, known = self._version, self._estimate
        grown = growth.grown(known, state)
        return grown is not None and self._is_worth(grown, known, state) and self._store(version, grown, known)

    def _is_worth(self, grown: Estimate, known: Estimate, state: PaceState) -> bool:
        """Return False if the grown estimate begins a probe for which too few jobs are left."""
        limit, before = (each.rate if state.reason == "rate" else each.in_flight for each in (grown, known))
        if not limit or not before or before.step:
            return True
        if 0 <= state.now_ms - self._not_worth_ms.get(state.reason, -CHECK_WORTH_MS) < CHECK_WORTH_MS:
            return False
        is_worth = growth.is_worth_probing(limit, state.reason, known.call_ms, self._open_jobs())
        if not is_worth:
            self._not_worth_ms[state.reason] = state.now_ms
        return is_worth

    def learn(
        self,
        call: str,
        permit: Permit,
        retry_after: timedelta,
        times: CallTimes | None = None,
        now_ms: int | None = None,
    ) -> timedelta:
        """Learn from a rate-limited call. Return the wait until the account's next probe."""
        while True:
            version, estimate, hit = self._ledger.record_rate_limit(
                self._account, call, permit, retry_after, now_ms, times
            )
            known = growth.informed(estimate, self._configured)
            learned = policy.after_rate_limit(known, hit)
            if learned == known or self._store(version, learned, known):
                # The first 429 of an event decides: the others were sent before it was known.
                is_first = learned.event_ms == hit.now_ms
                return max(retry_after, timedelta(milliseconds=learned.wait_ms)) if is_first else retry_after

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
