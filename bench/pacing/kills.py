"""SIGKILL of a worker now and then, seeded; another takes its place. No zero of the table may change."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.queue_process import WorkerProcess

# Seconds from one to the next: a new worker is ready after two or three, and shall have calls in flight.
BETWEEN_S = (5.0, 12.0)


class Kills:
    """`workers` is changed in place. Without a seed nobody is killed."""

    def __init__(self, workers: list[WorkerProcess], start: Callable[[], WorkerProcess], seed: int | None) -> None:
        self.done = 0
        self._workers = workers
        self._start = start
        self._random = None if seed is None else random.Random(seed)
        self._due_s = 0.0 if self._random is None else self._random.uniform(*BETWEEN_S)

    def maybe(self, now_s: float) -> None:
        """Called again and again, with the seconds since the first call."""
        if self._random is None or now_s < self._due_s:
            return
        place = self._random.randrange(len(self._workers))
        self._workers[place].kill()
        self._workers[place] = self._start()
        self.done += 1
        self._due_s = now_s + self._random.uniform(*BETWEEN_S)
