"""The keeper: a process that brings every batch of one queue whose files are on this machine to its end."""

from __future__ import annotations

import threading
import time

from structlog.typing import FilteringBoundLogger

from mira_producer.batches.lock import KeeperLock
from mira_producer.batches.spool import Spool
from mira_producer.batches.supervisor import BatchKeeper
from mira_producer.client import MiraQueue
from mira_queue.contract.errors import MiraQueueError, QueueUnavailable

LOOK_EVERY_S = 0.5
# Nothing to keep for so long: it ends, and the next submission starts another.
IDLE_S = 30.0


class Keeper:
    """All open batches, a thread for each. `ending` is set by SIGTERM."""

    def __init__(
        self, queue: MiraQueue, spool: Spool, lock: KeeperLock, ending: threading.Event, log: FilteringBoundLogger
    ) -> None:
        self._queue = queue
        self._spool = spool
        self._lock = lock
        self._ending = ending
        self._log = log
        self._threads: dict[str, threading.Thread] = {}
        self._account = queue.settings.account

    def run(self) -> None:
        """Until nothing was open for a while, or `ending` is set; then every batch is left as it can be taken up."""
        while self._lock.take():
            self._keep_all()
            self._lock.release()
            # Who submitted a moment ago found the lock taken, and relies on us.
            if self._ending.is_set() or not self._open():
                return

    def _keep_all(self) -> None:
        idle_since_s = time.monotonic()
        while not self._ending.is_set() and time.monotonic() - idle_since_s < IDLE_S:
            try:
                if self._look():
                    idle_since_s = time.monotonic()
            except QueueUnavailable as error:
                self._log.warning("server_unavailable", error=str(error))
                idle_since_s = time.monotonic()
            self._ending.wait(LOOK_EVERY_S)
        for thread in self._threads.values():
            thread.join()

    def _look(self) -> bool:
        """Start what is not kept yet; True: something is open."""
        open_ids = self._open()
        for batch_id in open_ids:
            thread = self._threads.get(batch_id)
            if thread is None or not thread.is_alive():
                self._threads[batch_id] = thread = threading.Thread(target=self._keep, args=(batch_id,), name=batch_id)
                thread.start()
        self._tidy()
        return bool(open_ids)

    def _open(self) -> list[str]:
        return [
            batch.id
            for batch in self._queue.ledger.batches()
            if not batch.status.is_final and self._spool.holds(batch.id)
        ]

    def _keep(self, batch_id: str) -> None:
        try:
            BatchKeeper(
                self._queue,
                self._queue.ledger.batch(batch_id),
                self._spool.files(batch_id),
                lambda: self._queue.ledger.pace_view(self._account),
                self._ending,
                self._log,
            ).keep()
        except MiraQueueError as error:
            self._log.warning("batch_failed", batch_id=batch_id, error=str(error))
            self._ending.wait(1.0)
        except Exception:  # noqa: BLE001
            # The other batches go on; this one is tried again.
            self._log.exception("batch_failed", batch_id=batch_id)
            self._ending.wait(10.0)

    def _tidy(self) -> None:
        """Files of this queue's batches that nobody knows any more: their time is over."""
        life_s = self._queue.settings.result_ttl.total_seconds()
        old = [
            batch_id
            for batch_id, changed_s in self._spool.ids(self._lock.queue_name)
            if time.time() - changed_s > life_s
        ]
        if old:
            known = {batch.id for batch in self._queue.ledger.batches()}
            for batch_id in set(old) - known:
                self._log.info("batch_removed", batch_id=batch_id)
                self._spool.remove(batch_id)
