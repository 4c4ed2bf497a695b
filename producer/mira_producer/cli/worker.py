"""`mira-queue worker`: the processes that run jobs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Annotated

import typer

from mira_producer.batches.launch import ensure_supervisor
from mira_producer.batches.restart import restart_batches
from mira_producer.batches.spool import Spool
from mira_producer.cli import console
from mira_producer.client import MiraQueue
from mira_producer.fleet import STOP_MARGIN, Fleet
from mira_producer.interrupts import interrupts_call
from mira_producer.processes import WorkerKind, environment_of, worker_command
from mira_queue.contract.errors import QueueUnavailable, QueueUnusable
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.ledger.server_check import check_usable
from mira_queue.runtime.accounts_file import load_accounts, served_accounts
from mira_queue.runtime.network_path import network_path
from mira_queue.runtime.settings_loader import load_settings

POLL_INTERVAL_S = 0.2

HELP_END = console.help_end(
    [
        ("mira-queue worker", "32 jobs at a time (MIRA_CONCURRENCY), and one more process for single jobs"),
        (
            "mira-queue worker --processes 4 --concurrency 100",
            "4 processes with 100 jobs each, and one more process for single jobs",
        ),
        ("mira-queue worker --single-processes 0", "one process for everything"),
        ("mira-queue worker --log-format json 2> worker.log", "one JSON object for each attempt"),
    ],
    {
        0: "stopped by a signal; all jobs are finished or back in the queue",
        1: "processes exited as soon as they started, or had to be killed; other workers run their jobs",
        2: "wrong usage or setting, or no API key",
    },
)


def worker(
    concurrency: Annotated[
        int | None, typer.Option(metavar="N", help="Jobs that each process runs at a time. [MIRA_CONCURRENCY]")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=0, max=256, metavar="N", help="Processes for all jobs. Each uses one core.")
    ] = 1,
    single_processes: Annotated[
        int,
        typer.Option(
            min=0, max=256, metavar="N", help="Processes for single jobs only. With 0, single jobs may wait for files."
        ),
    ] = 1,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error. [MIRA_LOG_LEVEL]")
    ] = None,
    log_format: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="auto, json or text. [MIRA_LOG_FORMAT]")
    ] = None,
) -> None:
    """Run the jobs of the queue until a signal stops the worker.

    Start any number of workers on any number of machines, with the same MIRA_REDIS_URL. They share the account's
    limits, and if one crashes, the others run its jobs. After Ctrl-C or SIGTERM, calls in flight have MIRA_GRACE
    seconds to finish, and the other jobs return to the queue. A second signal ends the wait for the calls.

    One more process runs single jobs only, so that a web app's users do not wait for the lines of a file. The other
    processes run single jobs, too, if no line of a file waits. A process that crashes is replaced.
    """
    if not processes + single_processes:
        raise typer.BadParameter("no process would run any job", param_hint="--processes, --single-processes")
    options = {"concurrency": concurrency, "log_level": log_level, "log_format": log_format}
    settings = load_settings(**{name: value for name, value in options.items() if value is not None})
    accounts = served_accounts(settings, load_accounts(settings))
    if not accounts:
        # A worker without a key can run no job.
        fix = "set it (to any text, for a server without keys) in the environment or in .env, or those of accounts.toml"
        raise SettingsError(f"{variable('api_key')} is not set: {fix}")
    for account in accounts:
        network_path(account.base)
    if any(Spool(settings.state_dir).ids()):
        # After a restart of the machine, these batches have no supervisor.
        ensure_supervisor(settings)
    if processes + single_processes == 1:
        _become_worker(settings, "single" if single_processes else "any")
    raise typer.Exit(_supervise(settings, processes, single_processes))


def _become_worker(settings: Settings, kind: WorkerKind) -> None:
    """Replace this process by the worker, which then has its signals, its terminal, and its exit code."""
    sys.stdout.flush()
    # The worker's logs are messages. Our standard output is for data, and there is none.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    command = worker_command(kind=kind)
    os.execve(command[0], command, {**os.environ, **environment_of(settings)})


def _supervise(settings: Settings, processes: int, single_processes: int) -> int:
    """Run the workers until a signal stops them. Return the exit code."""
    ended = threading.Event()
    fleet = Fleet(settings, processes, None, console.message, single=single_processes)
    signals = 0

    def count() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            fleet.stop_now()

    # Under nohup, SIGHUP stays ignored.
    hangup = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    # Opened here, so that a problem with the embedded server is reported once and not by every worker.
    with MiraQueue(settings) as queue, interrupts_call(count, *hangup):
        _check_server(queue)
        try:
            fleet.start()
            threading.Thread(target=restart_batches, args=(queue, ended), name="batches", daemon=True).start()
            while not signals:
                fleet.replace_crashed()
                time.sleep(POLL_INTERVAL_S)
        finally:
            ended.set()
            codes = fleet.stop(settings.grace + STOP_MARGIN)
    return console.EXIT_FAILED if set(codes) - {0, -signal.SIGTERM} else console.EXIT_OK


def _check_server(queue: MiraQueue) -> None:
    """Report a server that cannot be used once, here, and not by every worker. Workers wait for one that is down."""
    try:
        check_usable(queue.redis_url)
    except QueueUnusable:
        raise
    except QueueUnavailable as error:
        console.message(f"waiting: {error}")
