"""The simulator of a run with --simulate, and the queue of its own: both are used by simulated runs alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from mira_producer.cli.console import EXIT_USAGE
from mira_producer.jsonl.errors import InputError
from mira_producer.processes import StartError, start_simulator, stop
from mira_queue.contract.endpoint import AUTHORIZATION
from mira_queue.contract.settings import Settings

# It has the format of a real key. The simulator accepts any key.
SIMULATED_KEY = "sk-mira-" + "0" * 40
# No accounts file is used: only the simulator answers.
NO_FILE = Path(os.devnull)
# The account of a gateway with --simulate. Its state, its API keys, and its batches stay from start to start.
SERVE_GROUP = "gateway"
STOP_WITHIN = timedelta(seconds=5)


def simulated(settings: Settings, group: str = "") -> Settings:
    """Return the settings of the queue of simulated runs, so that the simulator never answers a real job.

    The run of each group has an account of its own, which stays the same when its simulator has another port.
    """
    changes = {
        "account": f"simulated-{group}",
        "accounts_file": NO_FILE,
        "api_key": SecretStr(SIMULATED_KEY),
        "key_header": AUTHORIZATION,
        "headers": {},
        "redis_url": None,
        "result_backend": None,
        "state_dir": settings.state_dir / "simulated",
    }
    return settings.model_copy(update=changes)


def start_own_simulator(arguments: Sequence[str], log: Path, stack: ExitStack) -> str:
    """Return its base URL; `stack` ends it. Raise InputError for a wrong option, with the simulator's own message."""
    log.unlink(missing_ok=True)
    try:
        process, url = start_simulator(arguments, log=log)
    except StartError as error:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if error.exit_code == EXIT_USAGE and said:
            complaint = said[-1].partition("error: ")[2] or said[-1]
            raise InputError(f"--simulator-options: {complaint} (see mira-queue simulate --help)") from None
        raise StartError(f"{error}: see {log}", error.exit_code) from None
    stack.callback(stop, process, STOP_WITHIN)
    return url
