"""`mira-queue worker`: the processes that do the jobs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Annotated, Any

import typer

from mira_queue.contract.settings import Settings, load_settings
from producer.batches.spool import Spool
from producer.batches.starting import ensure_keeper
from producer.cli import output
from producer.processes import environment_of, start_worker, worker_command

LOOK_EVERY_S = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

HELP_END = output.help_end(
    [
        ("mira-queue worker", "one process, MIRA_CONCURRENCY calls at a time"),
        ("mira-queue worker --processes 4 --concurrency 32", "128 calls at a time"),
        ("mira-queue worker --log-format json 2> worker.log", "one JSON object for each attempt"),
    ],
    {
        0: "stopped by a signal, all jobs finished or given back",
        1: "a worker process died by itself; its jobs are run by others",
        2: "wrong usage or setting, or no API key",
    },
)


def worker(
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Calls that a process makes at a time. [MIRA_CONCURRENCY]")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, max=256, metavar="N", help="Processes; more than one for more than one core.")
    ] = 1,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [MIRA_LOG_LEVEL]")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="auto, json or text. [MIRA_LOG_FORMAT]")
    ] = None,
) -> None:
    """Do the jobs of the queue, until stopped.

    Start as many as you like, on as many machines as you like, on one MIRA_REDIS_URL: they share the account's limits,
    and do each other's jobs when one dies. Ctrl-C or SIGTERM: calls in flight get MIRA_GRACE seconds to finish, the
    other jobs go back to the queue; a second signal does not wait for the calls.
    """
    options = {"concurrency": concurrency, "log_level": log_level, "log_format": log_format}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    if settings.api_key is None:
        # A worker without one would fail every job in the queue for good.
        output.error(
            "MIRA_API_KEY is not set: set it in the environment or in .env (any text, for a server without keys)"
        )
        raise typer.Exit(output.EXIT_USAGE)
    if any(Spool(settings.state_dir).ids()):
        # After the machine's restart nobody may have asked for these batches yet.
        ensure_keeper(settings)
    if processes == 1:
        _become_worker(settings)
    raise typer.Exit(_supervise(settings, processes))


def _become_worker(settings: Settings) -> None:
    """The worker takes this process's place: signals, the terminal and the exit code are its own."""
    sys.stdout.flush()
    # Its logs are messages; our standard output carries data, and it has none.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    command = worker_command()
    os.execve(command[0], command, {**os.environ, **environment_of(settings)})


def _supervise(settings: Settings, count: int) -> int:
    workers: list[subprocess.Popen[bytes]] = []
    asked_to_stop = False

    def pass_on(number: int, frame: FrameType | None) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True
        for process in workers:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)

    before: dict[signal.Signals, Any] = {number: signal.signal(number, pass_on) for number in SIGNALS}
    died = False
    try:
        while len(workers) < count and not asked_to_stop:
            workers.append(start_worker(environment_of(settings)))
        if asked_to_stop:
            pass_on(signal.SIGTERM, None)  # It came while one was being started, which was not in the list yet.
        alive = workers
        while alive:
            time.sleep(LOOK_EVERY_S)
            ended = [process for process in alive if process.poll() is not None]
            alive = [process for process in alive if process not in ended]
            for process in ended:
                if not asked_to_stop:
                    died = True
                    output.error(
                        f"worker {process.pid} ended by itself, exit code {process.returncode}; {len(alive)} left"
                    )
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    failed = died or any(process.returncode not in (0, -signal.SIGTERM) for process in workers)
    return output.EXIT_FAILED if failed else output.EXIT_OK
