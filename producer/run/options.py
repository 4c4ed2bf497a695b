"""What a run is told, whoever starts it, and the ways in which it ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Literal

# Of an error that every line would meet: leave the lines for the next run, or note one error a line.
OnAccountError = Literal["pause", "fail"]


class End(Enum):
    """Why a run ended."""

    COMPLETE = "every line has its answer or its error"
    ACCOUNT = "the account refused"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """One run from a file to a file.

    `group` names it to the ledger: a run that goes on where another stopped has the same. `window` is the most jobs
    that are open at a time. A `careful` run sends one line, and the rest only when that was not refused by the account.
    """

    input: Path
    output: Path
    errors: Path
    group: str
    window: int
    on_account_error: OnAccountError = "pause"
    careful: bool = False
