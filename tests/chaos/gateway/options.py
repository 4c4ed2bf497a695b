"""Options of a run, and the numbers of its creates and of the lines of its batches."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tests.chaos.options import ChaosOptions


@dataclass(frozen=True)
class GatewayOptions:
    """Options of one run. Equal options plan the same faults, after the same share of the creates."""

    creates: int = 2_000
    batches: int = 20
    lines: int = 200
    faults: int = 60
    seed: int = 1
    #: Time over which creates and batches are spread. Outages make it longer.
    minutes: float = 8.0
    #: Range of the latency of the API in seconds; less than the grace period of the workers.
    latency_s: tuple[float, float] = (0.3, 2.5)
    #: Share of the requests whose connection is cut between the client and the gateway.
    cut_share: float = 0.05
    workers: int = 2
    concurrency: int = 16
    clients: int = 16
    lease_s: float = 3.0
    rescue_s: float = 1.0
    grace_s: float = 5.0
    #: Minimum time between faults: a process that is killed while it starts proves little.
    fault_every_s: float = 2.0

    @cached_property
    def workload(self) -> ChaosOptions:
        """The same work as jobs with numbers: first the creates, and then the lines of all batches."""
        return ChaosOptions(jobs=self.creates + self.batches * self.lines, seed=self.seed, accounts=1)

    def numbers_of_batch(self, batch: int) -> range:
        first = self.creates + batch * self.lines
        return range(first, first + self.lines)
