"""Keep all threads of a worker on one core: the interpreter runs only one of them at a time.

On several cores, a thread that releases the interpreter's lock for a moment (every send and receive does) wakes another
thread on another core, and has to wait for the lock when it returns. This was half of a busy worker's time
(docs/decisions/0011-one-core.md). On one core, the thread continues.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

# How often the kernel may choose another core, because other processes start and end.
INTERVAL_S = 2.0
# A thread that sleeps for this long is woken on an idle core, if there is one.
CHOOSING_S = 0.002
# Position of a thread's last core in /proc/self/task/ID/stat, counted from after the name.
_CORE = 36


class CpuAffinity:
    """Keeps this process on one core, which the kernel chooses again at intervals. Linux only."""

    def __init__(self) -> None:
        # In a container, these are usually fewer than the machine has.
        self._allowed = os.sched_getaffinity(0) if sys.platform == "linux" else set()

    def start(self) -> None:
        if len(self._allowed) > 1:
            threading.Thread(target=self._run, name="cpu-affinity", daemon=True).start()

    def choose(self) -> int:
        """Let the kernel choose a core, and keep all threads on it. Return the core."""
        self._set(self._allowed)
        time.sleep(CHOOSING_S)
        core = int(Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()[_CORE])
        self._set({core})
        return core

    def _set(self, cores: set[int]) -> None:
        for thread in os.listdir("/proc/self/task"):
            # A thread may have ended in the meantime.
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cores)

    def _run(self) -> None:
        while True:
            # Some systems do not allow it. The worker then runs on all cores.
            with suppress(OSError):
                self.choose()
            time.sleep(INTERVAL_S * random.uniform(0.5, 1.0))
