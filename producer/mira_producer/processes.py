"""Workers and the simulator as processes of their own, started and ended: the producer never imports a worker."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from mira_queue.contract.durations import in_seconds
from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.settings import Settings, variable

# -P: what is called `worker` in the directory of a web app is not ours.
PYTHON = (sys.executable, "-P")
# What a worker does. any: what comes, single jobs and files in turn; files-first: single jobs only while no line of a
# file waits, since others are there for them: the `single`, which do nothing else.
WorkerKind = Literal["any", "files-first", "single"]
_OF_KIND: Mapping[WorkerKind, Sequence[str]] = {
    "any": (),
    "files-first": ("--in-order", "--queues", f"{BULK_QUEUE},{QUEUE}"),
    "single": ("--queues", QUEUE),
}
PARENT_PIPE = "--parent-pipe"
SIMULATOR_START_S = 30.0
# Log files may sit in a directory that others read.
LOG_MODE = 0o600


class StartError(RuntimeError):
    """A process that was started ended at once, or said nothing; the message is one line for a person."""

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def environment_of(settings: Settings, **changes: str) -> dict[str, str]:
    """The variables that give a child these settings: those that were set, not the defaults, which it has itself.

    `changes` are further fields by name: `concurrency="8"`. Secrets travel here, never as arguments: `ps` shows those.
    """
    given = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)}
    texts = {name: written(value) for name, value in given.items() if value is not None} | changes
    return {variable(name): text for name, text in texts.items()}


def worker_command(*arguments: str, kind: WorkerKind = "any") -> list[str]:
    """The command of one worker, under a name of its own: two of one name would answer a ping as one."""
    name = f"{'single' if kind == 'single' else 'mira'}-{uuid.uuid4().hex[:8]}@%h"
    return [*PYTHON, "-m", "mira_worker", *arguments, *_OF_KIND[kind], "--hostname", name]


def simulator_command(*arguments: str) -> list[str]:
    return [*PYTHON, "-m", "mira_queue.simulator", *arguments]


def start_worker(
    overrides: Mapping[str, str], *, log: Path | None = None, kind: WorkerKind = "any"
) -> subprocess.Popen[bytes]:
    """A worker that ends, gracefully, when `stop` says so or when this process is gone, even by SIGKILL.

    `overrides` are variables (`environment_of`) on top of this process's own. `log` gets its output, appended; None:
    our standard error.
    """
    with _output(log) as output:
        return subprocess.Popen(
            worker_command(PARENT_PIPE, kind=kind),
            env={**os.environ, **overrides},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches us alone: we decide in which order things end.
        )


def start_simulator(arguments: Sequence[str] = (), *, log: Path | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """A simulator and its base URL, for MIRA_API_BASE; it ends with us, as a worker does.

    `arguments` are those of `python -m mira_queue.simulator`, `log` as for a worker. Raises StartError; its own
    complaint is in `log`, or on our standard error.
    """
    with _output(log) as output:
        process = subprocess.Popen(
            simulator_command(PARENT_PIPE, *arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    try:
        return process, _ready_url(process)
    except BaseException:
        stop(process, timedelta(seconds=1))
        raise


def stop(process: subprocess.Popen[Any], grace: timedelta) -> int:
    """End one process; see `stop_all`. Returns its exit code."""
    return stop_all([process], grace)[0]


def stop_all(processes: Iterable[subprocess.Popen[Any]], grace: timedelta) -> list[int]:
    """SIGTERM to all, then SIGKILL to those that are still there after `grace`. Returns their exit codes.

    A worker takes MIRA_GRACE for its calls in flight: give it a few seconds more than that.
    """
    processes = list(processes)
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    return wait_all(processes, grace)


def wait_all(processes: Sequence[subprocess.Popen[Any]], grace: timedelta) -> list[int]:
    """Wait for their end; SIGKILL to those that are still there after `grace`. Returns their exit codes."""
    deadline = time.monotonic() + grace.total_seconds()
    try:
        for process in processes:
            _wait(process, deadline)
    finally:
        # Also when a second Ctrl-C ends the waiting: nothing of ours stays behind.
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()
    return [process.returncode for process in processes]


def _wait(process: subprocess.Popen[Any], deadline: float) -> None:
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()


def _ready_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], SIMULATOR_START_S)
    if not readable:
        raise StartError(f"the simulator has not said that it is ready for {SIMULATOR_START_S:g} s")
    word, _, url = process.stdout.readline().decode(errors="replace").strip().partition(" ")
    if word != "ready":
        raise StartError("the simulator did not start", process.wait(SIMULATOR_START_S))
    return url


def written(value: Any) -> str:
    """A setting as the environment holds it; durations are seconds."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, timedelta):
        return in_seconds(value)
    return str(value)


@contextmanager
def _output(log: Path | None) -> Iterator[int]:
    """Where a child writes: the end of a file, or our standard error, for our standard output carries data only."""
    if log is None:
        yield sys.stderr.fileno()
        return
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, LOG_MODE)
    try:
        yield fd
    finally:
        os.close(fd)
