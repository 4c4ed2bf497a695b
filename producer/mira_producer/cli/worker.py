"""`mira-queue worker`: the processes that do the jobs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType
from typing import Annotated

import typer

from mira_producer.batches.launch import ensure_supervisor
from mira_producer.batches.spool import Spool
from mira_producer.cli import console
from mira_producer.client import MiraQueue
from mira_producer.fleet import STOP_MARGIN, Fleet
from mira_producer.processes import WorkerKind, environment_of, worker_command
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.settings import Settings
from mira_queue.runtime.settings_loader import load_settings

LOOK_EVERY_S = 0.2
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

HELP_END = console.help_end(
    [
        ("mira-queue worker", "32 calls at a time (MIRA_CONCURRENCY), and room for single jobs"),
        ("mira-queue worker --processes 4 --concurrency 100", "400 calls at a time, and that room"),
        ("mira-queue worker --single-processes 0", "one process for everything"),
        ("mira-queue worker --log-format json 2> worker.log", "one JSON object for each attempt"),
    ],
    {
        0: "stopped by a signal, all jobs finished or given back",
        1: "processes ended as soon as they started, or had to be killed; others do their jobs",
        2: "wrong usage or setting, or no API key",
    },
)


def worker(
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Calls that a process makes at a time. [MIRA_CONCURRENCY]")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=256, metavar="N", help="Processes; more than one for more than one core.")
    ] = 1,
    single_processes: Annotated[
        int,
        typer.Option(
            min=0, max=256, metavar="N", help="Beside them, for single jobs alone; 0: those may wait for files."
        ),
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

    One more process does single jobs alone, so that a user of your web app does not wait for the answers of a file;
    the others do single jobs, too, while no line of a file waits. A process that dies is started again.
    """
    if not processes + single_processes:
        raise typer.BadParameter("nobody would do any job", param_hint="--processes, --single-processes")
    options = {"concurrency": concurrency, "log_level": log_level, "log_format": log_format}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    if settings.api_key is None:
        # A worker without one would fail every job in the queue for good.
        console.error(
            "MIRA_API_KEY is not set: set it in the environment or in .env (any text, for a server without keys)"
        )
        raise typer.Exit(console.EXIT_USAGE)
    if any(Spool(settings.state_dir).ids()):
        # After the machine's restart nobody may have asked for these batches yet.
        ensure_supervisor(settings)
    if processes + single_processes == 1:
        _become_worker(settings, "single" if single_processes else "any")
    raise typer.Exit(_supervise(settings, processes, single_processes))


def _become_worker(settings: Settings, kind: WorkerKind) -> None:
    """The worker takes this process's place: signals, the terminal and the exit code are its own."""
    sys.stdout.flush()
    # Its logs are messages; our standard output carries data, and it has none.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    command = worker_command(kind=kind)
    os.execve(command[0], command, {**os.environ, **environment_of(settings)})


def _supervise(settings: Settings, processes: int, single_processes: int) -> int:
    # Here, since what is wrong with an embedded server is then said once.
    queue = MiraQueue(settings)
    ended = threading.Event()
    tending = threading.Thread(target=_tend_batches, args=(queue, ended), name="batches", daemon=True)
    fleet = Fleet(settings, processes, None, console.message, single=single_processes)
    signals = 0

    def hear(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            fleet.stop_sooner()

    # Under nohup a terminal that is closed is not to be heard of.
    heard = [number for number in SIGNALS if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, hear) for number in heard}
    try:
        try:
            fleet.start()
            tending.start()
            while not signals:
                fleet.tend()
                time.sleep(LOOK_EVERY_S)
        finally:
            ended.set()
            codes = fleet.stop(settings.grace + STOP_MARGIN)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        queue.close()
    return console.EXIT_FAILED if set(codes) - {0, -signal.SIGTERM} else console.EXIT_OK


def _tend_batches(queue: MiraQueue, ended: threading.Event) -> None:
    """Start a supervisor for batches of this machine whose supervisor was killed."""
    while not ended.wait(queue.settings.rescue_interval.total_seconds()):
        with suppress(MiraQueueError, OSError):
            if any(queue.batches.spool.ids()):
                queue.batches.all()
