"""Crash this process at a named point, as `MIRA_CRASH_AT` says. Tests of the crash matrix in docs/states.md use it."""

from __future__ import annotations

import os
import signal
from threading import Lock

from mira_queue.contract.crash_point import CrashPoint, parse_crash_at


class CrashPoints:
    """What a process was told. Nothing, as a rule: then `reach` is one comparison."""

    def __init__(self, crash_at: str | None = None) -> None:
        self.armed: CrashPoint | None = None
        if crash_at:
            self.armed, self._passes = parse_crash_at(crash_at)
        self._lock = Lock()

    def reach(self, point: CrashPoint) -> None:
        """Die here, as by SIGKILL, if this is the pass of the point that was named."""
        if point is self.armed:
            self._count_down()

    def _count_down(self) -> None:
        with self._lock:
            self._passes -= 1
            if self._passes == 0:
                os.kill(os.getpid(), signal.SIGKILL)
