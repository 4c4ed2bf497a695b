"""Options of a chaos run: amount of work, faults, seed, and settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Base of the time limit; jobs and faults add to it.
BASE_LIMIT_S = 180.0
# A slower run counts as stuck. A busy machine with two cores is three times as fast.
MIN_JOBS_PER_S = 40.0
FAULT_ALLOWANCE_S = 4.0
# Work time per fault. The latency of the API is chosen so that all faults fit while all workers are busy.
FAULT_S = 2.0
# Lower and upper bound of the mean latency, seconds. Calls must finish within the grace period.
MEAN_LATENCY_S = (0.15, 2.0)
# If a worker is killed while it redelivers, stock Celery redelivers nothing for five minutes (the TTL of its lock).
# Jobs that return after that are late, not lost.
STOCK_MUTEX_S = 330.0


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """Options of one run. Equal options plan the same faults, after the same share of the work."""

    jobs: int = 5_000
    faults: int = 60
    seed: int = 1
    workers: int = 3
    concurrency: int = 16
    producers: int = 2
    #: Accounts of the jobs, each with its own key and its own simulated API.
    accounts: int = 1
    batch_share: float = 0.25
    batch_files: int = 4
    #: Range of the latency in seconds; None: computed from the plan.
    latency_s: tuple[float, float] | None = None
    lease_s: float = 3.0
    rescue_s: float = 1.0
    grace_s: float = 5.0
    #: Queued jobs at which producers pause; None: a tenth of all jobs, 100 to 600.
    backlog: int | None = None
    minutes: float | None = None
    #: The user's server, which must be empty and is never killed; None: an embedded server, which is killed.
    redis_url: str | None = None
    #: Additional settings of workers and producers, by field name.
    settings: dict[str, str] = field(default_factory=dict)
    #: Additional fields of the simulator's configuration, usually limits.
    simulator: dict[str, Any] = field(default_factory=dict)
    #: Only for stock Celery: messages of a killed worker are redelivered after this time.
    visibility_timeout_s: int = 20

    @property
    def stock_patience_s(self) -> float:
        """Time without a new result after which the missing jobs of stock Celery count as lost."""
        return STOCK_MUTEX_S + 3.0 * self.visibility_timeout_s

    @property
    def slots(self) -> int:
        """Calls that all workers can run at the same time."""
        return self.workers * self.concurrency

    @property
    def batch_lines(self) -> int:
        return int(self.jobs * self.batch_share) if self.batch_files else 0

    @property
    def single_jobs(self) -> int:
        return self.jobs - self.batch_lines

    @property
    def max_waiting(self) -> int:
        return self.backlog if self.backlog is not None else min(600, max(100, self.jobs // 10))

    @property
    def answer_takes_s(self) -> tuple[float, float]:
        if self.latency_s is not None:
            return self.latency_s
        lowest, highest = MEAN_LATENCY_S
        mean = min(highest, max(lowest, self.faults * FAULT_S * self.slots / self.jobs))
        return mean / 3, mean * 5 / 3

    @property
    def limit_s(self) -> float:
        """Time limit of the run. Jobs that are not finished by then count as lost."""
        if self.minutes is not None:
            return self.minutes * 60
        return BASE_LIMIT_S + self.jobs / MIN_JOBS_PER_S + self.faults * FAULT_ALLOWANCE_S
