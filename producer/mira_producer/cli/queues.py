"""The queue that a command about jobs or batches needs: the configured one, or the one of simulated runs."""

from __future__ import annotations

from contextlib import ExitStack

from mira_producer.batches.spool import Spool
from mira_producer.cli.own_simulator import simulated
from mira_producer.client import MiraQueue
from mira_queue.contract.batch import SIMULATED_PREFIX, Batch, is_simulated
from mira_queue.runtime.settings_loader import load_settings


class Queues(ExitStack):
    """Queues by the ids of their jobs and batches, opened when they are needed, and closed together."""

    def __init__(self) -> None:
        super().__init__()
        self._settings = load_settings()
        self._open: dict[bool, MiraQueue] = {}

    def of(self, an_id: str) -> MiraQueue:
        """Return the queue of a job or a batch."""
        is_of_simulator = is_simulated(an_id)
        if is_of_simulator not in self._open:
            settings = simulated(self._settings) if is_of_simulator else self._settings
            self._open[is_of_simulator] = self.enter_context(MiraQueue(settings))
        return self._open[is_of_simulator]

    def all_batches(self) -> list[Batch]:
        """Return the batches of the configured queue, simulated runs, and batches of a simulated gateway."""
        found = self.of("").batches.all()
        spool = Spool(simulated(self._settings).state_dir)
        if spool.has_runs() or spool.folders():
            found += self.of(SIMULATED_PREFIX).batches.all()
        return sorted(found, key=lambda batch: batch.created_at, reverse=True)
