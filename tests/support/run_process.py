"""`mira-queue run` as a process for tests: start it, read its output, interrupt it, and kill it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from mira_queue.contract.batch import BatchFiles
from tests.support.queue_process import QUICK, environment
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

# What the console script does, whether or not its folder is on the PATH.
COMMAND = (sys.executable, "-m", "mira_producer.cli", "run")
PATIENCE_S = 120.0
BATCHES = b"mira:batch"
# Keys of the ledger itself, which stay.
OWN_KEYS = (b"mira:schema", b"mira:clock")
INPUT, ANSWERS, ERRORS = "input.jsonl", "answers.jsonl", "errors.jsonl"
# Workers of a run that was killed end by themselves, and need not wait for a call that never comes back.
GRACE_S = 5


class RunProcess:
    """A run in `folder`: its working directory, with the input, the output, the errors and the state.

    RunProcess.start(folder, "input.jsonl", "--workers", "2", redis_url=..., api_base=...) takes fields of Settings. As
    a context manager it is killed at the end, if it is still there.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._orphans: list[int] = []

    @classmethod
    def start(cls, folder: Path, *arguments: str, files: bool = True, **settings: Any) -> Self:
        """Start a run. With `files=False`, the command chooses its output files."""
        log = folder / f"run-{len(list(folder.glob('run-*.log')))}.log"
        command = [*COMMAND, *arguments, "--json"]
        if files:
            command += ["--output", ANSWERS, "--errors", ERRORS]
        with log.open("wb") as stream, log.with_suffix(".json").open("wb") as summary:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(**{**QUICK, "grace": GRACE_S, "state_dir": folder / "state", **settings}),
                stdin=subprocess.DEVNULL,
                stdout=summary,
                stderr=stream,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def said(self) -> str:
        """What a person would have read so far."""
        return self._log.read_text(encoding="utf-8")

    def batch_id(self) -> str:
        """The id of its batch, as it has printed it."""
        return wait_until("it prints its batch id", lambda: re.search(r"batch_\w+", self.said()))[0]

    def summary(self) -> dict[str, Any]:
        """What --json has printed."""
        return dict(json.loads(self._log.with_suffix(".json").read_bytes()))

    def worker_pids(self) -> list[int]:
        """Of the workers that it has started and that live."""
        return [pid for pid, parent in _workers() if parent == self.pid]

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self, *, workers: bool = False) -> None:
        """Send SIGKILL and wait for the exit. Its workers exit a little later, or are killed as well."""
        self._orphans += self.worker_pids()
        if workers:
            for pid in self.worker_pids():
                os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Its exit code. Fails with what it and its workers said when it does not end."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            logs = [self._log, *self._log.parent.glob("state/**/worker.log")]
            said = "\n".join(f"--- {log.name}\n{log.read_text(encoding='utf-8')[-3000:]}" for log in logs)
            raise AssertionError(f"the run has not ended within {timeout_s:g} s\n{said}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        orphans = set(self._orphans)
        wait_until("workers end when their run is gone", lambda: orphans.isdisjoint(pid for pid, _ in _workers()))


def run_to_the_end(folder: Path, *arguments: str, **settings: Any) -> RunProcess:
    """Run until the command exits."""
    with RunProcess.start(folder, *arguments, **settings) as run:
        run.wait()
    return run


def _workers() -> list[tuple[int, int]]:
    """(pid, parent) of every worker on this machine."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in listed.splitlines()]
    return [
        (int(pid), int(parent)) for pid, parent, state, what in rows if state[0] != "Z" and "-m mira_worker" in what
    ]


def files_in(folder: Path) -> BatchFiles:
    """The files of a run in this folder."""
    return BatchFiles(*(folder / name for name in (INPUT, ANSWERS, ERRORS, "record.json", "prices.toml")))


def write_lines(path: Path, entries: Iterable[Any]) -> Path:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of a file; none if it does not exist."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def ids(lines: Iterable[dict[str, Any]]) -> list[str]:
    return sorted(line["custom_id"] for line in lines)


def prompts(count: int, suffix: str = "") -> list[dict[str, Any]]:
    """Lines for an input."""
    return [{"custom_id": f"req-{number}", "prompt": f"Question {number}{suffix}"} for number in range(1, count + 1)]


def keys(client: redis.Redis) -> list[bytes]:
    """What the ledger and the result backend hold of jobs. Batches stay, until they expire."""
    found: list[Any] = [*client.keys("mira:[!g]*"), *client.keys("celery-task-meta-*")]
    return sorted(key for key in found if not key.startswith(BATCHES) and key not in OWN_KEYS)


def answered_calls(simulator: SimulatorProcess) -> dict[str, int]:
    """Return how often each line was answered."""
    return {content: count["answered"] for content, count in simulator.requests()["by_content"].items()}
