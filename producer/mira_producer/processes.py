"""Start and stop workers and the simulator as processes. The producer never imports a worker."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Literal

import orjson
from pydantic import SecretStr

from mira_queue.contract.durations import in_seconds
from mira_queue.contract.names import BULK_QUEUE, QUEUE
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.private_files import private_opener

# -P: a module in the working directory (the `celery.py` of a web app) must not replace one of ours.
PYTHON = (sys.executable, "-P")
# any: the worker alternates between single jobs and lines of files. files-first: it runs single jobs only if no line of
# a file waits, because other workers run them. single: it runs single jobs only.
WorkerKind = Literal["any", "files-first", "single"]
_OF_KIND: Mapping[WorkerKind, Sequence[str]] = {
    "any": (),
    "files-first": ("--in-order", "--queues", f"{BULK_QUEUE},{QUEUE}"),
    "single": ("--queues", QUEUE),
}
PARENT_PIPE = "--parent-pipe"
SIMULATOR_START_S = 30.0


class StartError(RuntimeError):
    """A process exited immediately after its start, or did not report that it is ready. The message is one line."""

    def __init__(self, reason: str, exit_code: int = 1) -> None:
        super().__init__(reason)
        self.exit_code = exit_code


def environment_of(settings: Settings, **changes: str) -> dict[str, str]:
    """Return the environment variables that give a child process these settings, without the defaults.

    `changes` are further fields by name: `concurrency="8"`. Secrets are passed here and never as arguments, which `ps`
    shows.
    """
    configured = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)}
    texts = {name: written(value) for name, value in configured.items() if value is not None} | changes
    return {variable(name): text for name, text in texts.items()}


def worker_command(*arguments: str, kind: WorkerKind = "any") -> list[str]:
    """Return the command of one worker. Its name is unique: Celery counts workers with the same name as one."""
    name = f"{'single' if kind == 'single' else 'mira'}-{uuid.uuid4().hex[:8]}@%h"
    return [*PYTHON, "-m", "mira_worker", *arguments, *_OF_KIND[kind], "--hostname", name]


def simulator_command(*arguments: str) -> list[str]:
    """Return the command of a simulator."""
    return [*PYTHON, "-m", "mira_queue.simulator", *arguments]


def start_worker(
    overrides: Mapping[str, str], *, log: Path | None = None, kind: WorkerKind = "any"
) -> subprocess.Popen[bytes]:
    """Start a worker. It stops gracefully on `stop`, or if this process exits, even by SIGKILL.

    `overrides` are variables (`environment_of`) that take precedence over this process's environment. The worker
    appends its output to the file `log`; None is our standard error.
    """
    with output_of_child(log) as output:
        return subprocess.Popen(
            worker_command(PARENT_PIPE, kind=kind),
            env={**os.environ, **overrides},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C reaches only this process, which stops its children in the right order.
        )


def start_simulator(arguments: Sequence[str] = (), *, log: Path | None = None) -> tuple[subprocess.Popen[bytes], str]:
    """Start a simulator. Return its process and its base URL. It stops with this process, as a worker does.

    `arguments` are those of `python -m mira_queue.simulator`; `log` has the same meaning as for a worker. Raises
    StartError; the simulator's own message is in `log` or on our standard error.
    """
    with output_of_child(log) as output:
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
    """Stop one process, and return its exit code; see `stop_all`."""
    return stop_all([process], grace)[0]


def stop_all(processes: Iterable[subprocess.Popen[Any]], grace: timedelta) -> list[int]:
    """Send SIGTERM to all, wait for `grace`, and kill those that have not exited. Return their exit codes.

    A worker needs up to MIRA_GRACE for its calls in flight, and a few seconds more.
    """
    processes = list(processes)
    for process in processes:
        process.terminate()
    return wait_all(processes, grace)


def wait_all(processes: Sequence[subprocess.Popen[Any]], grace: timedelta) -> list[int]:
    """Wait until they exit, and kill those that have not after `grace`. Return their exit codes."""
    try:
        wait_some(processes, grace)
    finally:
        # Also if a second Ctrl-C ends the wait: no process of ours is left behind.
        for process in processes:
            # Its pipes are closed, too.
            with process:
                process.kill()
    return [process.returncode for process in processes]


def wait_some(processes: Iterable[subprocess.Popen[Any]], timeout: timedelta) -> None:
    """Wait until they exit, for at most `timeout`."""
    deadline_s = time.monotonic() + timeout.total_seconds()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, deadline_s - time.monotonic()))


def _ready_url(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], SIMULATOR_START_S)
    if not readable:
        raise StartError(f"the simulator was not ready after {SIMULATOR_START_S:g} s")
    word, _, url = process.stdout.readline().decode(errors="replace").strip().partition(" ")
    if word != "ready":
        raise StartError("the simulator did not start", process.wait(SIMULATOR_START_S))
    return url


def written(value: Any) -> str:
    """Return a setting's value as an environment variable has it. Durations are seconds."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, timedelta):
        return in_seconds(value)
    if isinstance(value, Mapping):
        return orjson.dumps({name: written(text) for name, text in value.items()}).decode()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)


def output_of_child(log: Path | None) -> AbstractContextManager[IO[Any]]:
    """Open the file that a child appends to. None is our standard error: our standard output is for data."""
    return nullcontext(sys.stderr) if log is None else open(log, "ab", opener=private_opener)
