"""Options that several commands share."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import typer

from mira_queue.contract.batch import BatchOptions, OnAccountError, OnChanged
from mira_queue.contract.durations import duration

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|m|min|h|d)", re.IGNORECASE)
MAX_DEADLINE = timedelta(days=366)

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch, as submit and run print it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for a script.")]
AccountName = Annotated[
    str | None, typer.Option("--account", metavar="NAME", help="Account of the accounts file. [MIRA_ACCOUNT]")
]
AccountErrors = Annotated[
    OnAccountError,
    typer.Option(help="On 401, 402 and 403: pause, and keep the lines for later; or write one error per line."),
]
Deadline = Annotated[
    str | None,
    typer.Option(metavar="TIME", help="Lines that have not finished by then become errors: 24h, 90m, an ISO time."),
]
Dedupe = Annotated[bool, typer.Option("--dedupe", help="Send identical requests once; each line gets the answer.")]
Ordered = Annotated[bool, typer.Option("--ordered", help="At the end, sort the files in the order of the input.")]
Changed = Annotated[
    Literal["rerun", "keep"] | None,
    typer.Option(
        help="Lines whose request has changed since they were answered: send them again, or keep their answers. "
        "Without this option, nothing is sent if there are such lines."
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE", help="A note of the job or batch. Can be repeated."),
]
MaxRequests = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Maximum number of calls; the batch pauses there. 0: no limit.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Maximum number of tokens; the batch pauses there. 0: no limit.")
]
MaxCost = Annotated[
    str | None,
    typer.Option(metavar="AMOUNT", help="Maximum cost, in the currency of the price table; the batch pauses there."),
]
PriceTable = Annotated[
    Path | None, typer.Option("--prices", metavar="FILE", help="Price table. [default: ./prices.toml, if it exists]")
]
Simulate = Annotated[bool, typer.Option("--simulate", help="Call a simulator that starts and stops with the command.")]
SimulateWithoutKey = Annotated[
    bool, typer.Option("--simulate-without-key", help="Use --simulate if MIRA_API_KEY is not set.")
]
SimulatorOptions = Annotated[
    str, typer.Option(metavar="OPTIONS", help="Options of the simulator; see mira-queue simulate --help.")
]


def batch_options(
    on_account_error: OnAccountError,
    deadline: str | None,
    dedupe: bool,
    ordered: bool,
    max_requests: int | None,
    max_tokens: int | None,
    max_cost: str | None,
    changed: OnChanged | None = None,
) -> BatchOptions:
    """Return what a user asked, as one value."""
    end = time_option(deadline, "--deadline", datetime.now(UTC))
    deadline_s = math.ceil(end.timestamp()) if end else 0
    return BatchOptions(
        on_account_error,
        deadline_s,
        dedupe,
        ordered,
        max_requests or 0,
        max_tokens or 0,
        max_cost or "",
        changed or "",
    )


def time_option(text: str | None, name: str, now: datetime, *, is_past: bool = False) -> datetime | None:
    """Return the time that a user gave for the option `name`, or None without one. `2h` may mean two hours ago."""
    if not text:
        return None
    try:
        found = parse_deadline(text, now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None
    return now - (found - now) if is_past and _SPAN.fullmatch(text.strip()) else found


def notes_of(texts: list[str] | None) -> dict[str, str]:
    """Return the pairs of `--metadata`."""
    notes = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"expected KEY=VALUE, got {text[:40]!r}", param_hint="--metadata")
        notes[key] = value
    return notes


def parse_deadline(text: str, now: datetime) -> datetime:
    """Return the time of `24h`, `90m`, or `2d` from now, or of an ISO time, which is local if it names no zone.

    `now` has a zone, and so has the result. Raises ValueError with a message for the user.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        wait = duration(span[1], span[2])
        if not timedelta(0) < wait <= MAX_DEADLINE:
            raise ValueError(f"expected more than 0 and at most {MAX_DEADLINE.days} days, got {text!r}")
        return now + wait
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected 24h, 90m, 2d, or a time such as 2030-01-31T18:00, got {text[:40]!r}") from None
