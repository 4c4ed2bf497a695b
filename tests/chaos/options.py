"""What one chaos run is told: how much work, how many kills, which seed, which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

# Seconds that a run may take beyond what its jobs and kills are given below.
BASE_LIMIT_S = 180.0
# Slower than this, all together, and the run counts as stuck: a busy machine with two cores does three times as much.
LEAST_JOBS_PER_S = 40.0
KILL_ALLOWANCE_S = 2.0
# What a blow takes until the next one, outages among them: the API answers so slowly that there is time for all of
# them, with all workers busy.
BLOW_S = 3.0
# Seconds that an answer takes on average, at least and at most. Calls have to end within the grace period.
MEAN_LATENCY_S = (0.15, 2.0)
# Stock Celery's redelivery stands still for five minutes when a worker is killed in the middle of it (its lock's life);
# what comes back after that is late, not lost.
STOCK_MUTEX_S = 330.0


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """One run. The same options bring the same blows, in the same order, after the same share of the work."""

    jobs: int = 5_000
    kills: int = 40
    seed: int = 1
    workers: int = 3
    concurrency: int = 16
    producers: int = 2
    batch_share: float = 0.25
    batch_files: int = 4
    #: Seconds that an answer takes; None: such that the plan has its time.
    latency_s: tuple[float, float] | None = None
    lease_s: float = 3.0
    rescue_s: float = 1.0
    grace_s: float = 5.0
    #: Jobs that may wait in the queue before producers pause; None: a tenth of all, 100 to 600.
    backlog: int | None = None
    minutes: float | None = None
    #: The user's own server, which must be empty and is never killed; None: an embedded one, which is.
    redis_url: str | None = None
    #: Further MIRA_ settings of workers and producers, by field name.
    settings: dict[str, str] = field(default_factory=dict)
    #: Further fields of the simulator's configuration: limits, as a rule.
    simulator: dict[str, Any] = field(default_factory=dict)
    #: Only for stock Celery: its own way of finding what a dead worker held.
    visibility_timeout_s: int = 20

    @property
    def stock_patience_s(self) -> float:
        """How long nothing may come back from stock Celery before what is missing counts as lost."""
        return STOCK_MUTEX_S + 3.0 * self.visibility_timeout_s

    @property
    def batch_lines(self) -> int:
        return int(self.jobs * self.batch_share) if self.batch_files else 0

    @property
    def single_jobs(self) -> int:
        return self.jobs - self.batch_lines

    @property
    def most_waiting(self) -> int:
        return self.backlog if self.backlog is not None else min(600, max(100, self.jobs // 10))

    @property
    def answer_takes_s(self) -> tuple[float, float]:
        if self.latency_s is not None:
            return self.latency_s
        least, most = MEAN_LATENCY_S
        slots = self.workers * self.concurrency
        mean = min(most, max(least, self.kills * BLOW_S * slots / self.jobs))
        return mean / 3, mean * 5 / 3

    @property
    def limit_s(self) -> float:
        """When the run is given up, and what has not ended counts as lost."""
        if self.minutes is not None:
            return self.minutes * 60
        return BASE_LIMIT_S + self.jobs / LEAST_JOBS_PER_S + self.kills * KILL_ALLOWANCE_S
