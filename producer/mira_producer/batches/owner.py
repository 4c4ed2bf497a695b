"""The owner of a batch, as its supervisor sees it: it gives commands, and learns how the batch progresses.

There are two: the ledger's commands alone (a submitted batch), and the terminal of `mira-queue run`, which obeys them,
too (`cli/foreground.py`).
"""

from __future__ import annotations

import threading

from structlog.typing import FilteringBoundLogger

from mira_producer.batches.turns import Turns
from mira_queue.contract.batch import Batch, BatchStatus, PausedBy
from mira_queue.contract.commands import Command
from mira_queue.ledger.ledger import Ledger


class Owner:
    """Owner of a batch, as its supervisor sees it. Any process may write commands to the ledger.

    `stopping` is set when the process is to end: nothing more is submitted. `hurry` is set when calls in flight are not
    waited for any longer. `keeps_files` is True if the files stay locked while the batch is paused. `command` and
    `acknowledge` raise QueueUnavailable.
    """

    keeps_files = False

    def __init__(self, ledger: Ledger, batch_id: str, stopping: threading.Event, hurry: threading.Event) -> None:
        self._ledger = ledger
        self._batch_id = batch_id
        self.stopping = stopping
        self.hurry = hurry

    def command(self) -> Command | None:
        return self._ledger.command_of(self._batch_id)

    def acknowledge(self, command: Command) -> None:
        self._ledger.ack_command(self._batch_id, command)

    def waits(self, paused_by: PausedBy) -> bool:
        """Return True if the process stays when the batch is paused for this reason."""
        return True

    def tend(self) -> None:
        """Check workers, for example. It is called every now and then. An exception ends the supervisor."""

    def lines_ahead(self, limit: int) -> int:
        """Return how many lines go ahead of the others (see turns.py), given the account's limit of calls in flight."""
        return 0

    def show(self, batch: Batch) -> None:
        """Show the progress. It is called often."""

    def moved(self, status: BatchStatus) -> None: ...
    def paused(self, by: PausedBy, reason: str) -> None: ...
    def say(self, text: str) -> None: ...


class LedgerOwner(Owner):
    """Owner of a submitted batch. Its messages go to a log."""

    def __init__(
        self, ledger: Ledger, batch_id: str, stopping: threading.Event, log: FilteringBoundLogger, turns: Turns
    ) -> None:
        # Calls that are in flight when the process ends are found by the next supervisor.
        super().__init__(ledger, batch_id, stopping, hurry=stopping)
        self._log = log.bind(batch_id=batch_id)
        self._turns = turns

    def lines_ahead(self, limit: int) -> int:
        return self._turns.share(self._batch_id, limit)

    def moved(self, status: BatchStatus) -> None:
        self._log.info("batch", status=status)

    def paused(self, by: PausedBy, reason: str) -> None:
        self._log.info("batch_paused", reason=reason)

    def say(self, text: str) -> None:
        self._log.info("batch_says", text=text)
