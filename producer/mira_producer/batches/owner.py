"""The owner of a batch, as its supervisor sees it: it gives commands, and learns how the batch progresses.

There are two: the ledger's commands alone (a submitted batch), and the terminal of `mira-queue run`, which obeys them,
too (`cli/foreground.py`).
"""

from __future__ import annotations

import threading
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import Reason
from mira_queue.contract.batch import BatchStatus, PausedBy
from mira_queue.contract.commands import Command
from mira_queue.ledger.ledger import Ledger


class Owner(Protocol):
    """What a supervisor asks of its batch's owner, and tells it."""

    #: Set when the process is to end: nothing more is submitted.
    stopping: threading.Event
    #: Set when calls in flight are not waited for any longer.
    hurry: threading.Event

    def command(self) -> Command | None:
        """Return the command that has not been carried out yet. Raise QueueUnavailable."""

    def acknowledge(self, command: Command) -> None:
        """Take note that a command was carried out. Raise QueueUnavailable."""

    def waits(self, paused_by: PausedBy) -> bool:
        """Return True if the process stays when the batch is paused for this reason; False if it ends then."""

    def keeps_files(self) -> bool:
        """Return True if the files stay locked while the batch is paused."""

    def tend(self) -> None:
        """Do what has to be done now and then. An exception ends the supervisor."""

    def show(self, stats: Stats, reason: Reason) -> None:
        """Show the counts, and what the batch waits for."""

    def moved(self, status: BatchStatus) -> None:
        """Take note of the batch's new status."""

    def paused(self, by: PausedBy, reason: str) -> None:
        """Take note that nothing more is sent, and why."""

    def say(self, text: str) -> None:
        """Take note of a message."""


class LedgerCommands:
    """The commands of a batch, which any process may write to the ledger."""

    def __init__(self, ledger: Ledger, batch_id: str) -> None:
        self._ledger = ledger
        self._batch_id = batch_id

    def command(self) -> Command | None:
        return self._ledger.command_of(self._batch_id)

    def acknowledge(self, command: Command) -> None:
        self._ledger.ack_command(self._batch_id, command)


class LedgerOwner(LedgerCommands):
    """The owner of a submitted batch: its commands are in the ledger, and what it is told goes to a log."""

    def __init__(self, ledger: Ledger, batch_id: str, stopping: threading.Event, log: FilteringBoundLogger) -> None:
        super().__init__(ledger, batch_id)
        self._log = log.bind(batch_id=batch_id)
        self.stopping = stopping
        # Calls that are in flight when the process ends are found by the next supervisor.
        self.hurry = stopping

    def waits(self, paused_by: PausedBy) -> bool:
        return True

    def keeps_files(self) -> bool:
        return False

    def tend(self) -> None:
        return None

    def show(self, stats: Stats, reason: Reason) -> None:
        return None

    def moved(self, status: BatchStatus) -> None:
        self._log.info("batch", status=status)

    def paused(self, by: PausedBy, reason: str) -> None:
        self._log.info("batch_paused", reason=reason)

    def say(self, text: str) -> None:
        self._log.info("batch_says", text=text)
