"""Worker processes, started and looked after: one that dies is replaced, all end with their parent."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from mira_producer.processes import WorkerKind, environment_of, start_worker, stop_all, wait_all
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import Settings

# A worker that dies this soon after its start has something wrong that the next one would have too.
HEALTHY_AFTER_S = 30.0
MOST_EARLY_DEATHS = 3
# Beyond the workers' own grace period, before they are killed.
STOP_MARGIN = timedelta(seconds=5)
# Two signals that come at the same time count as one.
BETWEEN_SIGNALS_S = 0.5


class WorkersFail(MiraQueueError):
    """Workers die as soon as they start; says where their log is, if they have one."""


class Fleet:
    """`count` workers for whatever comes, and `single` for single jobs alone, which the others then leave to them.

    `log` is the file they write to; None: our standard error.
    """

    def __init__(
        self, settings: Settings, count: int, log: Path | None, say: Callable[[str], None], *, single: int = 0
    ) -> None:
        self._settings = settings
        own: WorkerKind = "files-first" if single else "any"
        self._kinds: list[WorkerKind] = [own] * count + ["single"] * single
        self._log = log
        self._say = say
        self._workers: list[tuple[subprocess.Popen[bytes], float, WorkerKind]] = []
        self._early_deaths = 0
        #: Set when calls in flight are not to be waited for any longer: their jobs go back to the queue.
        self.hurry = False

    def start(self) -> None:
        for kind in self._kinds:
            self._start_one(kind)

    def tend(self) -> None:
        """Replace workers that have died. Raises WorkersFail when they die as soon as they start."""
        for entry in list(self._workers):
            process, began_s, kind = entry
            code = process.poll()
            if code is None:
                continue
            self._workers.remove(entry)
            early = time.monotonic() - began_s < HEALTHY_AFTER_S
            self._early_deaths = self._early_deaths + 1 if early else 0
            if self._early_deaths >= MOST_EARLY_DEATHS:
                raise WorkersFail(f"workers end as soon as they start (exit code {code}){self._tail()}")
            self._say(f"a worker has died (exit code {code}); starting another; its jobs are safe")
            self._start_one(kind)

    def stop(self, grace: timedelta) -> list[int]:
        """All at once; what has not ended after the grace period is killed, and its jobs are rescued.

        Returns their exit codes.
        """
        processes = self._processes()
        if self.hurry:
            _ask_to_end(processes)
            codes = stop_all(processes, grace)
        else:
            # Not SIGTERM: a service manager may have sent one to every process, and a second one cuts the grace short.
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
            codes = wait_all(processes, grace)
        self._workers.clear()
        return codes

    def stop_sooner(self) -> None:
        """While `stop` waits: calls in flight are not waited for any longer."""
        for process in self._processes():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [process for process, *_ in self._workers]

    def _start_one(self, kind: WorkerKind) -> None:
        # "same", since a .env that the worker reads may name a backend that this run does not use.
        changes = {"result_backend": "same"} if self._settings.result_backend is None else {}
        worker = start_worker(environment_of(self._settings, **changes), log=self._log, kind=kind)
        self._workers.append((worker, time.monotonic(), kind))

    def _tail(self) -> str:
        if self._log is None:
            return ": they have said why"
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f": see {self._log}", *(line[:300] for line in lines[-5:])])


def _ask_to_end(processes: list[subprocess.Popen[bytes]]) -> None:
    """A first SIGTERM, so that the one of `stop_all` is the second, which a worker takes as: at once."""
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + BETWEEN_SIGNALS_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline - time.monotonic()))
