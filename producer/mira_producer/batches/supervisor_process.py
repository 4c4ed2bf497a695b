"""The supervisor process: it runs all batches of one queue whose files are on this machine."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

from structlog.typing import FilteringBoundLogger

from mira_producer.batches.lock import SupervisorLock
from mira_producer.batches.owner import LedgerOwner
from mira_producer.batches.spool import Spool
from mira_producer.batches.supervisor import Supervisor
from mira_producer.batches.turns import Turns
from mira_producer.client import MiraQueue
from mira_queue.contract.errors import MiraQueueError, QueueUnavailable

POLL_S = 0.5
# After consecutive unexpected errors, the next check waits longer, at most this long.
MAX_PAUSE_S = 30.0
# The check reads a file of every batch on this machine.
REMOVE_EXPIRED_EVERY_S = 10.0
# After this time without an open batch the process ends, and the next submission starts another.
IDLE_S = 30.0
# Open jobs of a batch: enough that no fleet of a usual size waits for lines; a few megabytes of the server's memory.
WINDOW = 4000


@dataclass(slots=True)
class SupervisorProcess:
    """All open batches, a thread for each. `stopping` is set by SIGTERM."""

    _queue: MiraQueue
    _spool: Spool
    _lock: SupervisorLock
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _threads: dict[str, threading.Thread] = field(default_factory=dict)
    _turns: Turns = field(default_factory=Turns)
    _remove_at_s: float = 0.0

    def run(self) -> None:
        """Return when nothing was open for a while, or when `stopping` is set; then another process can take over."""
        while self._lock.take():
            self._supervise_all()
            self._lock.release()
            # A submission of a moment ago found the lock taken, and relies on this process.
            if self._stopping.is_set() or not self._has_open():
                return

    def _supervise_all(self) -> None:
        idle_since_s, pause_s = time.monotonic(), POLL_S
        while not self._stopping.is_set() and time.monotonic() - idle_since_s < IDLE_S:
            try:
                is_idle = not self._start_new()
                self._remove_expired()
                pause_s = POLL_S
            except QueueUnavailable as error:
                self._log.warning("server_unavailable", error=str(error))
                is_idle, pause_s = False, POLL_S
            except Exception:  # noqa: BLE001
                # A full table of files, or a bug: the batches that run continue, and others start when it has passed.
                self._log.exception("supervisor_failed")
                is_idle, pause_s = False, min(MAX_PAUSE_S, 2 * pause_s)
            if not is_idle:
                idle_since_s = time.monotonic()
            self._stopping.wait(pause_s)
        for thread in self._threads.values():
            thread.join()

    def _start_new(self) -> bool:
        """Start a thread for every batch that has none. Return True if a batch is open."""
        open_ids = self._open()
        for batch_id in open_ids:
            thread = self._threads.get(batch_id)
            if thread is None or not thread.is_alive():
                self._threads[batch_id] = thread = threading.Thread(
                    target=self._supervise, args=(batch_id,), name=batch_id
                )
                thread.start()
        return bool(open_ids)

    def _has_open(self) -> bool:
        """Return True if a batch is open, or if that is unknown because the server is unavailable."""
        try:
            return bool(self._open())
        except QueueUnavailable:
            return True

    def _open(self) -> list[str]:
        return [batch_id for batch_id in self._queue.ledger.open_batches() if self._spool.holds(batch_id)]

    def _supervise(self, batch_id: str) -> None:
        try:
            batch = self._queue.ledger.batch(batch_id)
            owner = LedgerOwner(self._queue.ledger, batch_id, self._stopping, self._log, self._turns)
            with (
                self._turns.takes_part(batch),
                closing(
                    Supervisor(self._queue, batch, self._spool.files(batch_id), owner, window=WINDOW)
                ) as supervisor,
            ):
                supervisor.run()
        except MiraQueueError as error:
            self._log.warning("batch_failed", batch_id=batch_id, error=str(error))
            self._stopping.wait(1.0)
        except Exception:  # noqa: BLE001
            # The other batches continue; this one is tried again.
            self._log.exception("batch_failed", batch_id=batch_id)
            self._stopping.wait(10.0)

    def _remove_expired(self) -> None:
        """Remove the files of this queue's batches that have expired in the ledger, from time to time."""
        if time.monotonic() < self._remove_at_s:
            return
        self._remove_at_s = time.monotonic() + REMOVE_EXPIRED_EVERY_S
        max_age_s = self._queue.settings.result_ttl.total_seconds()
        old = [
            batch_id
            for batch_id, changed_s in self._spool.ids(self._lock.queue_name)
            if time.time() - changed_s > max_age_s
        ]
        if old:
            known = {batch.id for batch in self._queue.ledger.batches()}
            for batch_id in set(old) - known:
                self._log.info("batch_removed", batch_id=batch_id)
                self._spool.remove(batch_id)
