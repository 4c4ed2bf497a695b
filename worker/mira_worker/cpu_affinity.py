"""One core for a worker's threads: the interpreter runs one of them at a time, wherever they are.

Spread over several cores, a thread that gives up the interpreter's lock for a moment (every send and receive does)
wakes another one on another core, and has to wait for the lock when it is back: measured, half of a busy worker's time
(docs/decisions/0011-one-core.md). On one core it goes on.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

# How often the kernel may choose anew; other processes come and go.
EVERY_S = 2.0
# What it takes to choose: whoever sleeps is woken on a core that is idle, if one is.
CHOOSING_S = 0.002
# In /proc/self/task/ID/stat, behind the name: the core that a thread was last on.
_CORE = 36


class OneCore:
    """Keeps all threads of this process on one core, which the kernel chooses, again and again. Linux only."""

    def __init__(self) -> None:
        # What we were given, by whoever started us; less than the machine has, as a rule, in a container.
        self._allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set()

    def start(self) -> None:
        if len(self._allowed) > 1:
            threading.Thread(target=self._run, name="core", daemon=True).start()

    def choose(self) -> int:
        """Once: let the kernel choose, and keep to that. Returns the core."""
        self._keep_to(self._allowed)
        time.sleep(CHOOSING_S)
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[_CORE])
        self._keep_to({core})
        return core

    def _keep_to(self, cores: set[int]) -> None:
        for thread in os.listdir("/proc/self/task"):
            # One may have ended meanwhile.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cores)

    def _run(self) -> None:
        while True:
            # A machine that lets no process choose is as it was before.
            with suppress(OSError):
                self.choose()
            time.sleep(EVERY_S * random.uniform(0.5, 1.0))
