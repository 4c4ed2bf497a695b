"""The simulator of a run with --simulate: started with it, and gone with it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

from mira_producer.jsonl.errors import InputError
from mira_producer.processes import StartError, start_simulator, stop

STOP_WITHIN = timedelta(seconds=5)
# What a command ends with when its options are wrong.
_WRONG_USAGE = 2


def start_own_simulator(arguments: Sequence[str], log: Path, stack: ExitStack) -> str:
    """Its base URL; `stack` ends it. Raises InputError for a wrong option, with the simulator's own complaint."""
    log.unlink(missing_ok=True)
    try:
        process, url = start_simulator(arguments, log=log)
    except StartError as error:
        said = log.read_text(encoding="utf-8", errors="replace").splitlines()
        if error.exit_code == _WRONG_USAGE and said:
            complaint = said[-1].partition("error: ")[2] or said[-1]
            raise InputError(f"--simulator-options: {complaint} (see mira-queue simulate --help)") from None
        raise StartError(f"{error}: see {log}", error.exit_code) from None
    stack.callback(stop, process, STOP_WITHIN)
    return url
