"""Cost of learning: how often a process counts the account's jobs while a probe for more is due."""

from __future__ import annotations

from typing import Any

import structlog
from mira_worker.pacing.learner import CHECK_WORTH_MS, Learner

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState

NOW_MS = 1_000_000_000
DUE = Limit(3, 5_000, NOW_MS - 1, confirmations=2, probe_at_ms=NOW_MS, interval_ms=100_000)


class EstimateLedger:
    """Has one estimate, whose probe for more is due, and counts the questions about the jobs that are left."""

    def __init__(self) -> None:
        self.jobs = self.counted = 0

    def estimate(self, account: str) -> tuple[int, Estimate]:
        return 1, Estimate(in_flight=DUE)

    def store_estimate(self, account: str, version: int, estimate: Estimate) -> int:
        return version + 1

    def jobs_left(self) -> int:
        self.counted += 1
        return self.jobs


def test_jobs_are_not_counted_for_each_permit_while_a_probe_is_due_for_which_too_few_are_left() -> None:
    ledger: Any = EstimateLedger()
    learner = Learner(ledger, "an-account", ConfiguredLimits(), structlog.get_logger(), ledger.jobs_left)

    def wait_ms(after_ms: int) -> int:
        return learner.wait_ms(PaceState(NOW_MS + after_ms, "in_flight", 70, 0, 0, 0, 0, 0, version=1))

    assert [wait_ms(each) for each in (0, 1, CHECK_WORTH_MS - 1)] == [70, 70, 70]
    assert ledger.counted == 1
    assert (wait_ms(CHECK_WORTH_MS), ledger.counted) == (70, 2)

    ledger.jobs = 1000
    assert (wait_ms(2 * CHECK_WORTH_MS), ledger.counted) == (0, 3)
