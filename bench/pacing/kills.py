"""Kill and replace workers at random times. Figures whose target is zero must stay zero."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.support.queue_process import WorkerProcess

# Seconds between kills: a new worker needs two or three to start, and must have calls in flight.
BETWEEN_S = (5.0, 12.0)


class Kills:
    """Kills at random times. Replaces entries of `workers` in place. Without a seed, nothing is killed."""

    def __init__(self, workers: list[WorkerProcess], start: Callable[[], WorkerProcess], seed: int | None) -> None:
        self.done = 0
        self._workers = workers
        self._start = start
        self._random = None if seed is None else random.Random(seed)
        self._due_s = 0.0 if self._random is None else self._random.uniform(*BETWEEN_S)

    def maybe(self, now_s: float) -> None:
        """Kill a worker if it is time. `now_s` is the time since the first call."""
        if self._random is None or now_s < self._due_s:
            return
        place = self._random.randrange(len(self._workers))
        self._workers[place].kill()
        self._workers[place] = self._start()
        self.done += 1
        self._due_s = now_s + self._random.uniform(*BETWEEN_S)
