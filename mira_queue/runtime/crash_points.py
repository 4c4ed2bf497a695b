"""Crash points: tests of the crash matrix (docs/states.md) crash a process at the point that MIRA_CRASH_AT names."""

from __future__ import annotations

import os
import signal
from threading import Lock

from mira_queue.contract.crash_point import CrashPoint, parse_crash_at


class CrashPoints:
    """The crash point of this process. Usually there is none, and `reach` is one comparison."""

    def __init__(self, crash_at: str | None = None) -> None:
        self.armed: CrashPoint | None = None
        if crash_at:
            self.armed, self._passes = parse_crash_at(crash_at)
        self._lock = Lock()

    def reach(self, point: CrashPoint) -> None:
        """Crash here, as by SIGKILL, if this is the configured pass of the configured point."""
        if point is self.armed:
            with self._lock:
                self._passes -= 1
                if self._passes == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
