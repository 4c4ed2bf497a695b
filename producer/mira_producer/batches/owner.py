"""The owner of a batch, as its supervisor sees it: it gives commands, and learns how the batch progresses.

There are two: the ledger's commands alone (a submitted batch), and the terminal of `mira-queue run`, which obeys them,
too (`cli/foreground.py`).
"""

from __future__ import annotations

import threading
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from mira_producer.engine.stats import Stats
from mira_queue.contract.batch import BatchStatus, PausedBy, Reason
from mira_queue.contract.commands import Command
from mira_queue.ledger.ledger import Ledger


class Owner(Protocol):
    """What a supervisor asks of its batch's owner, and tells it.

    `stopping` is set when the process is to end: nothing more is submitted. `hurry` is set when calls in flight are not
    waited for any longer. `waits` returns True if the process stays when the batch is paused for this reason, and
    `keeps_files` if the files stay locked meanwhile. `tend` is called every now and then; an exception ends the
    supervisor. `command` and `acknowledge` raise QueueUnavailable.
    """

    stopping: threading.Event
    hurry: threading.Event
    keeps_files: bool

    def command(self) -> Command | None: ...
    def acknowledge(self, command: Command) -> None: ...
    def waits(self, paused_by: PausedBy) -> bool: ...
    def tend(self) -> None: ...
    def show(self, stats: Stats, reason: Reason) -> None: ...
    def moved(self, status: BatchStatus) -> None: ...
    def paused(self, by: PausedBy, reason: str) -> None: ...
    def say(self, text: str) -> None: ...


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
        self.keeps_files = False

    def waits(self, paused_by: PausedBy) -> bool:
        return True

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
