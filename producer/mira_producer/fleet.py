"""Worker processes of one command: started together, replaced when they crash, stopped together."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from mira_producer.processes import WorkerKind, environment_of, start_worker, stop_all, wait_all, wait_some
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import Settings

# A worker that exits this soon after its start has a problem that its replacement would have, too.
HEALTHY_AFTER_S = 30.0
MAX_EARLY_EXITS = 3
# How much longer than their own grace period the workers have before they are killed.
STOP_MARGIN = timedelta(seconds=5)
# Two signals that arrive at the same time count as one.
BETWEEN_SIGNALS = timedelta(seconds=0.5)


class WorkersFail(MiraQueueError):
    """Workers exit as soon as they start. The message has the end of their log, if they write to a file."""


class Fleet:
    """The worker processes: `count` for all jobs, and `single` for single jobs only, if that is not 0.

    The workers write to the file `log`; None is our standard error. `say` prints a message for the user.
    """

    def __init__(
        self, settings: Settings, count: int, log: Path | None, say: Callable[[str], None], *, single: int = 0
    ) -> None:
        self._settings = settings
        kind: WorkerKind = "files-first" if single else "any"
        self._kinds: list[WorkerKind] = [kind] * count + ["single"] * single
        self._log = log
        self._say = say
        self._workers: list[tuple[subprocess.Popen[bytes], float, WorkerKind]] = []
        self._early_exits = 0

    def start(self) -> None:
        """Start all workers. They connect and report themselves after this method has returned."""
        for kind in self._kinds:
            self._start_one(kind)

    def replace_crashed(self) -> None:
        """Start a worker for each one that has exited. Raises WorkersFail if they exit as soon as they start."""
        for entry in list(self._workers):
            process, started_s, kind = entry
            code = process.poll()
            if code is None:
                continue
            self._workers.remove(entry)
            # SIGKILL comes from outside: from an operator, or because the machine had no memory left for a moment.
            early = time.monotonic() - started_s < HEALTHY_AFTER_S and code != -signal.SIGKILL
            self._early_exits = self._early_exits + 1 if early else 0
            if self._early_exits >= MAX_EARLY_EXITS:
                raise WorkersFail(f"workers exit as soon as they start (exit code {code}){self._end_of_log()}")
            self._say(f"a worker has crashed (exit code {code}); another one is started, and no job is lost")
            self._start_one(kind)

    def stop(self, grace: timedelta, *, at_once: bool = False) -> list[int]:
        """Stop all workers, and return their exit codes. Those that have not exited after `grace` are killed.

        With `at_once`, the workers do not wait for calls in flight: their jobs return to the queue.
        """
        processes = self._processes()
        if at_once:
            self.stop_now()
            wait_some(processes, BETWEEN_SIGNALS)
            # A second SIGTERM, which a worker takes as the end of its grace period.
            codes = stop_all(processes, grace)
        else:
            # Not SIGTERM: a service manager may have sent one to every process, and a second one ends the grace period.
            for process in processes:
                assert process.stdin is not None
                process.stdin.close()
            codes = wait_all(processes, grace)
        self._workers.clear()
        return codes

    def stop_now(self) -> None:
        """Send SIGTERM to the workers. While `stop` waits, this ends the wait for calls in flight."""
        for process in self._processes():
            process.terminate()

    def _processes(self) -> list[subprocess.Popen[bytes]]:
        return [process for process, *_ in self._workers]

    def _start_one(self, kind: WorkerKind) -> None:
        # "same", because a .env that the worker reads may name a backend that this command does not use.
        changes = {"result_backend": "same"} if self._settings.result_backend is None else {}
        worker = start_worker(environment_of(self._settings, **changes), log=self._log, kind=kind)
        self._workers.append((worker, time.monotonic(), kind))

    def _end_of_log(self) -> str:
        if self._log is None:
            return ": see their messages above"
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f": see {self._log}", *(line[:300] for line in lines[-5:])])
