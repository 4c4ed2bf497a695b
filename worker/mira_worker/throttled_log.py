"""Log that the queue's server is unavailable, at most once per interval, however many threads wait for it."""

from __future__ import annotations

import threading
import time

from structlog.typing import FilteringBoundLogger

INTERVAL_S = 5.0


class ThrottledLog:
    """`warn` is called for every failed attempt of every thread to reach the server."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._silent_until_s = 0.0

    def warn(self, error: Exception) -> None:
        now_s = time.monotonic()
        with self._lock:
            if now_s < self._silent_until_s:
                return
            self._silent_until_s = now_s + INTERVAL_S
        self._log.warning("server_unavailable", error=str(error)[:200])
