"""Leases that this process holds, and the heartbeat that extends them."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease

# Two heartbeats may be late or lost before a lease expires.
BEATS_PER_LEASE = 3


class HeldLeases:
    """Extends all held leases from one background thread, in one round trip.

    A process that is killed or suspended stops extending them. Other workers then rescue its jobs, as intended.
    """

    def __init__(self, ledger: Ledger, lease: timedelta, log: FilteringBoundLogger) -> None:
        self._ledger = ledger
        self._lease = lease
        self._log = log
        self._held: dict[str, Lease] = {}
        self._rejected: list[Lease] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def hold(self, lease: Lease) -> None:
        with self._lock:
            self._held[lease.job_id] = lease

    def drop(self, lease: Lease) -> None:
        with self._lock:
            # If the lease had expired, this process may have claimed the job again: the new lease stays.
            if self._held.get(lease.job_id) == lease:
                del self._held[lease.job_id]

    def held(self) -> list[Lease]:
        with self._lock:
            return list(self._held.values())

    def beat(self) -> None:
        """Extend all leases once."""
        leases = self.held()
        extended = zip(leases, self._ledger.extend(leases, self._lease), strict=True)
        rejected = [lease for lease, is_extended in extended if not is_extended]
        for lease in rejected:
            # Rejected once, the job may have just finished: the response is on its way to the job's thread.
            if lease in self._rejected and lease in self.held():
                # The call continues, because it cannot be recalled. Its outcome will not be stored.
                self._log.warning("lease_lost", job_id=lease.job_id)
                self.drop(lease)
        self._rejected = rejected

    def _run(self) -> None:
        while True:
            time.sleep(self._lease.total_seconds() / BEATS_PER_LEASE)
            try:
                self.beat()
            except QueueUnavailable as error:
                self._log.warning("heartbeat_failed", error=str(error))
