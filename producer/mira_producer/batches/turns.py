"""Turns of projects: a batch with a million lines does not keep the ten lines of another project waiting.

The lines of all batches of an account are in one queue, in the order of their submission. If batches of several
projects run, each project also has a few lines in the queue of single jobs, which no line in front of them delays. They
are as many as the project's share of the calls in flight.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mira_queue.contract.batch import Batch

# Without a known limit of calls in flight, as many lines are ahead in all as if this were the limit.
USUAL_LIMIT = 8
MAX_SHARE = 16


def share_of_batch(limit: int, projects: int, own_batches: int) -> int:
    """Return how many lines of a batch go ahead, given its account's limit of calls in flight (0: unknown). Pure."""
    if projects < 2:
        return 0
    return max(1, min(MAX_SHARE, (limit or USUAL_LIMIT) // projects // own_batches))


class Turns:
    """The batches that this process runs, by account and project."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, tuple[str, str]] = {}

    @contextmanager
    def takes_part(self, batch: Batch) -> Iterator[None]:
        """Let a batch take turns with the others in this context."""
        with self._lock:
            self._running[batch.id] = (batch.account, batch.origin.project)
        try:
            yield
        finally:
            with self._lock:
                del self._running[batch.id]

    def share(self, batch_id: str, limit: int) -> int:
        """Return how many lines of a batch go ahead now, given its account's limit of calls in flight."""
        with self._lock:
            own = self._running[batch_id]
            of_account = [each for each in self._running.values() if each[0] == own[0]]
        return share_of_batch(limit, len(set(of_account)), of_account.count(own))
