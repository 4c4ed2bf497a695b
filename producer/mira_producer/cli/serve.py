"""`mira-queue serve`: OpenAI's API over HTTP on the queue, with workers next to it."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from contextlib import ExitStack, suppress
from functools import partial
from typing import Annotated, Any, NoReturn

import typer

from mira_producer.batches.launch import ensure_supervisor
from mira_producer.batches.spool import Spool
from mira_producer.cli import console, options
from mira_producer.cli.own_simulator import SERVE_GROUP, simulated, start_own_simulator
from mira_producer.cli.paths import made
from mira_producer.cli.simulator_options import split_options
from mira_producer.client import MiraQueue
from mira_producer.fleet import WorkersFail
from mira_producer.processes import StartError
from mira_queue.contract.api_key import ApiKey, Scope, new_key_id, new_secret
from mira_queue.contract.settings import Settings, SettingsError, variable
from mira_queue.runtime.accounts_file import load_accounts, served_accounts
from mira_queue.runtime.logs import configure_logs
from mira_queue.runtime.network_path import network_path
from mira_queue.runtime.settings_loader import load_settings

FIRST_KEY_NAME = "default"

HELP_END = console.help_end(
    [
        ("mira-queue serve", "a complete service: gateway, queue, and one worker, on 127.0.0.1:8080"),
        ("mira-queue serve --simulate", "a dry run: no key, no bill, no real answers"),
        ("mira-queue serve --host 0.0.0.0 --workers 0", "for other machines; workers run elsewhere"),
    ],
    {
        0: "stopped by a signal; accepted jobs stay in the queue",
        1: "the address cannot be used, or workers exited as soon as they started or had to be killed",
        2: "wrong usage or setting, or no API key",
    },
)


def serve(
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 0: a free one.")] = 8080,
    workers: Annotated[
        int, typer.Option(min=0, max=64, metavar="N", help="Worker processes to start; 0: other workers run the jobs.")
    ] = 1,
    simulate: options.Simulate = False,
    simulate_without_key: options.SimulateWithoutKey = False,
    simulator_options: options.SimulatorOptions = "",
    prices_path: options.PriceTable = None,
) -> None:
    """Serve OpenAI's API over HTTP, with workers.

    Every OpenAI SDK is then a client of the queue. Set its base URL to the address, and its API key to one of
    mira-queue keys. The first start creates a key, and prints it once. After Ctrl-C or SIGTERM, open requests have
    MIRA_GRACE seconds to finish. A second signal ends that wait. Accepted jobs stay in the queue.
    """
    settings = load_settings()
    if simulate_without_key and load_accounts(settings).current.key is None:
        console.message(f"{variable('api_key')} is not set: using the simulator")
        simulate = True
    if simulator_options and not (simulate or simulate_without_key):
        raise typer.BadParameter("is for --simulate", param_hint="--simulator-options")
    service = _service_module()
    price_table = service.PriceTable(prices_path)
    configure_logs(settings.log_format, settings.log_level)
    # A client that has gone must not end the process; neither must a closed terminal under nohup.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with ExitStack() as stack:
        if simulate:
            settings = simulated(settings, SERVE_GROUP)
            made(settings.state_dir.parent)
            log = made(settings.state_dir) / "simulator.log"
            url = start_own_simulator(split_options(simulator_options), log, stack)
            settings = settings.model_copy(update={"api_base": url})
        elif workers:
            _check_accounts(settings)
        if any(Spool(settings.state_dir).ids()):
            # After a restart of the machine, these batches have no supervisor.
            ensure_supervisor(settings)
        served = service.Service(settings, host, port, workers, console.message, simulate, price_table)
        try:
            codes = served.run(partial(_announce, simulate))
        except WorkersFail as error:
            console.error(str(error))
            codes = [console.EXIT_FAILED]
    _exit(console.EXIT_FAILED if set(codes) - {0, -signal.SIGTERM} else console.EXIT_OK)


def _exit(code: int) -> NoReturn:
    """Exit after everything is closed. An idle thread may have outlived its event loop: Python would wait for it."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def _service_module() -> Any:
    try:
        # Takes a quarter of a second, so only this command loads it.
        return importlib.import_module("mira_producer.gateway.service")
    except ImportError as error:
        raise StartError(
            f"serve needs more packages ({error}): make install, or pip install 'PATH[gateway]' (PATH: the checkout)"
        ) from None


def _check_accounts(settings: Settings) -> None:
    accounts = served_accounts(settings, load_accounts(settings))
    if not accounts:
        fix = "set it, add --simulate to try without a key, or run workers elsewhere with --workers 0"
        raise SettingsError(f"{variable('api_key')} is not set: {fix}")
    for account in accounts:
        network_path(account.base)


def _announce(is_simulated: bool, queue: MiraQueue, url: str) -> None:
    """Print the addresses, and the first key if there is none yet, in the variables that SDKs read."""
    console.data(f"OPENAI_BASE_URL={url}")
    secret = new_secret(simulated=is_simulated)
    first = ApiKey(new_key_id(), FIRST_KEY_NAME, Scope.ADMIN, int(time.time()))
    if queue.ledger.add_first_api_key(secret, first):
        console.data(f"OPENAI_API_KEY={secret.get_secret_value()}")
        console.message("The first API key was created. It is shown only now; mira-queue keys makes others.")
    page = queue.settings.page_url or url.removesuffix("/v1")
    console.message(f"The gateway is ready: {url}. Its web page: {page}/. Ctrl-C stops it.")
