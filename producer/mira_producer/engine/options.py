"""What a run is told, whoever starts it, and the ways in which it ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Literal

from mira_producer.cost.budget import BudgetLimits
from mira_producer.cost.prices import Prices

# Of an error that every line would meet: leave the lines for the next run, or note one error a line.
OnAccountError = Literal["pause", "fail"]


class End(Enum):
    """Why a run ended."""

    COMPLETE = "every line has its answer or its error"
    ACCOUNT = "the account refused"
    INTERRUPTED = "interrupted"
    EXPIRED = "the deadline has passed"
    BUDGET = "the budget is used up"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """One run from a file to a file.

    `group` names it to the ledger: a run that goes on where another stopped has the same. `window` is the most jobs
    that are open at a time. After the `deadline`, which knows its zone, no line is handed in. With `dedupe` identical
    requests are sent once; with `ordered` the files are put in the order of the input once every line has ended. Of the
    `budget`, what earlier runs of these files have used is used. A `careful` run sends one line, and the rest only when
    that was not refused by the account.
    """

    input: Path
    output: Path
    errors: Path
    group: str
    window: int
    on_account_error: OnAccountError = "pause"
    deadline: datetime | None = None
    dedupe: bool = False
    ordered: bool = False
    prices: Prices = field(default_factory=Prices)
    budget: BudgetLimits | None = None
    careful: bool = False
