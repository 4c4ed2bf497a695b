"""Says that the queue's server is away: once in a while, however many threads wait for it."""

from __future__ import annotations

import threading
import time

from structlog.typing import FilteringBoundLogger

SAY_EVERY_S = 5.0


class OutageLog:
    """`tell` is called for every failed try of every thread."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._quiet_until_s = 0.0

    def tell(self, error: Exception) -> None:
        now_s = time.monotonic()
        with self._lock:
            if now_s < self._quiet_until_s:
                return
            self._quiet_until_s = now_s + SAY_EVERY_S
        self._log.warning("server_unavailable", error=str(error)[:200])
