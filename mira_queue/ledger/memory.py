"""Memory of the queue's server that accepted jobs need to finish: new jobs must not use it."""

from __future__ import annotations

import math
import time
from typing import Any

import redis

from mira_queue.contract.errors import QueueUnavailable

# Claims, leases and outcomes take this share of maxmemory. Without it, a full server would finish no job.
KEPT_FREE = 0.1
CHECK_EVERY_S = 1.0
# Also after this share of the memory that is kept free was accepted by this process since the last check.
MAX_UNCHECKED = 0.1
# Of an accepted job next to its request: its ledger entry, its message, and the server's overhead for each.
JOB_BYTES = 3 * 1024


class Headroom:
    """Check of one server's memory, shared by the threads of a process. Without a lock: two checks do no harm."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._next_s = 0.0
        self._left_bytes = 0.0
        self._is_low = False

    def check(self, jobs: int, size: int) -> None:
        """Raise QueueUnavailable if the server has no room for new jobs, with `size` bytes of requests."""
        self._left_bytes -= size + jobs * JOB_BYTES
        if time.monotonic() >= self._next_s or self._left_bytes < 0:
            # Set first: while the server does not respond, other threads must not wait for it here, too.
            self._next_s = time.monotonic() + CHECK_EVERY_S
            self._measure()
        if self._is_low:
            raise QueueUnavailable(
                f"the queue's server has less than {KEPT_FREE:.0%} of its maxmemory free, which accepted jobs need "
                "to finish: raise its maxmemory, or wait for results to expire"
            )

    def _measure(self) -> None:
        try:
            info: dict[str, Any] = self._client.info("memory")
        except QueueUnavailable as error:
            # A hosted server may forbid INFO.
            if not isinstance(error.__cause__, redis.ResponseError):
                raise
            info = {}
        limit = int(info.get("maxmemory", 0))
        self._is_low = bool(limit) and int(info["used_memory"]) > (1 - KEPT_FREE) * limit
        self._left_bytes = MAX_UNCHECKED * KEPT_FREE * limit if limit else math.inf
