"""Jobs of a run whose lines are written. They stay in the ledger until newer ones have followed.

If another program truncates a file, the lines that were written last are gone from it. The next run finds their jobs,
and writes them again without a call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mira_producer.engine.plan import Plan
from mira_queue.ledger.ledger import Ledger

# Bytes of lines whose jobs stay. Their answers are in the server's memory.
MAX_BYTES = 8 * 1024 * 1024

# Id and idempotency key.
Jobs = Sequence[tuple[str, str]]


class WrittenJobs:
    """Jobs of one run and one account, at most `max_jobs` of them."""

    def __init__(self, ledger: Ledger, plan: Plan, account: str, *, max_jobs: int) -> None:
        self._ledger = ledger
        self._plan = plan
        self._account = account
        self._max_jobs = max_jobs
        self._written: deque[tuple[Jobs, int]] = deque()
        self._count = self._bytes = 0

    def add(self, jobs: Jobs, size: int) -> None:
        """Add jobs whose lines, of `size` bytes, were written together."""
        self._written.append((jobs, size))
        self._count += len(jobs)
        self._bytes += size

    def delete_old(self) -> None:
        """Delete the oldest jobs, as far as there are too many. Raises FileReplaced, and then deletes none."""
        self._delete(self._max_jobs, MAX_BYTES)

    def delete_all(self) -> None:
        """Delete all jobs. Raises FileReplaced, and then deletes none."""
        self._delete(0, 0)

    def _delete(self, max_jobs: int, max_bytes: int) -> None:
        while self._count > max_jobs or self._bytes > max_bytes:
            # Of a file that has changed, no job may be deleted: the line may be nowhere else.
            self._plan.check_files()
            jobs, size = self._written[0]
            self._ledger.delete(self._account, jobs)
            # Not earlier: if the server fails, they are deleted later.
            self._written.popleft()
            self._count -= len(jobs)
            self._bytes -= size
