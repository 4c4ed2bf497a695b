"""The workers that a run starts, and looks after: one that dies is replaced, all end with the run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import Settings
from producer.processes import environment_of, start_worker, stop_all

# A worker that dies this soon after its start has something wrong that the next one would have too.
HEALTHY_AFTER_S = 10.0
MOST_EARLY_DEATHS = 3
# Two signals that come at the same time count as one.
BETWEEN_SIGNALS_S = 0.5


class WorkersFail(MiraQueueError):
    """Workers die as soon as they start; says where their log is."""


class Fleet:
    """`count` worker processes on the run's server; `log` is the file they write to."""

    def __init__(self, settings: Settings, count: int, log: Path, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._count = count
        self._log = log
        self._say = say
        self._workers: list[tuple[subprocess.Popen[bytes], float]] = []
        self._early_deaths = 0
        #: Set when calls in flight are not to be waited for any longer: their jobs go back to the queue.
        self.hurry = False

    def start(self) -> None:
        for _ in range(self._count):
            self._start_one()

    def tend(self) -> None:
        """Replace workers that have died. Raises WorkersFail when they die as soon as they start."""
        for entry in list(self._workers):
            process, began_s = entry
            code = process.poll()
            if code is None:
                continue
            self._workers.remove(entry)
            early = time.monotonic() - began_s < HEALTHY_AFTER_S
            self._early_deaths = self._early_deaths + 1 if early else 0
            if self._early_deaths >= MOST_EARLY_DEATHS:
                raise WorkersFail(
                    f"workers end as soon as they start (exit code {code}): see {self._log}\n{self._tail()}"
                )
            self._say(f"a worker has died (exit code {code}); starting another; its jobs are safe")
            self._start_one()

    def stop(self, grace: timedelta) -> None:
        """SIGTERM for all at once; what has not ended after the grace period is killed, and its jobs are rescued."""
        processes = [process for process, _ in self._workers]
        if self.hurry:
            _ask_to_end(processes)
        stop_all(processes, grace)
        self._workers.clear()

    def _start_one(self) -> None:
        # "same", since a .env that the worker reads may name a backend that this run does not use.
        changes = {"result_backend": "same"} if self._settings.result_backend is None else {}
        worker = start_worker(environment_of(self._settings, **changes), log=self._log)
        self._workers.append((worker, time.monotonic()))

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(line[:300] for line in lines[-5:])


def _ask_to_end(processes: list[subprocess.Popen[bytes]]) -> None:
    """A first SIGTERM, so that the one of `stop_all` is the second, which a worker takes as: at once."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + BETWEEN_SIGNALS_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
