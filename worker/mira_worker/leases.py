"""The leases that this process holds, and the heartbeat that extends them."""

from __future__ import annotations

import threading
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease

# Two heartbeats may be late or lost before the lease is.
BEATS_PER_LEASE = 3


class LeaseKeeper:
    """Extends every held lease from one background thread, all in one round trip.

    A process that is killed or paused stops extending: its jobs go to somebody else, which is the point.
    """

    def __init__(self, ledger: Ledger, lease: timedelta, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._lease = lease
        self._log = log
        self._held: dict[str, Lease] = {}
        self._refused: list[Lease] = []
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="lease-keeper", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.job_id] = lease

    def release(self, lease: Lease) -> None:
        with self._lock:
            # This process may have claimed the job anew, when the lease had passed: that one is kept.
            if self._held.get(lease.job_id) == lease:
                del self._held[lease.job_id]

    def held(self) -> list[Lease]:
        with self._lock:
            return list(self._held.values())

    def beat(self) -> None:
        """One heartbeat."""
        leases = self.held()
        answers = zip(leases, self._ledger.extend(leases, self._lease), strict=True)
        refused = [lease for lease, kept in answers if not kept]
        for lease in refused:
            # Refused once, it may just have ended: that is stored, and the answer is on its way to its thread.
            if lease in self._refused and lease in self.held():
                # Its call goes on, since it cannot be recalled; its outcome will not be stored.
                self._log.warning("lease_lost", job_id=lease.job_id)
                self.release(lease)
        self._refused = refused

    def _run(self) -> None:
        while not self._stopped.wait(self._lease.total_seconds() / BEATS_PER_LEASE):
            try:
                self.beat()
            except QueueUnavailable as error:
                self._log.warning("heartbeat_failed", error=str(error))
