"""Options that several commands share."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from mira_producer.time_text import parse_time
from mira_queue.contract.batch import BatchOptions, OnAccountError, OnChanged

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
Webhook = Annotated[
    str | None,
    typer.Option(metavar="URL", help="A gateway posts the event of its end there, signed with MIRA_WEBHOOK_SECRET."),
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
        return parse_time(text, now, is_past=is_past)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def notes_of(texts: list[str] | None) -> dict[str, str]:
    """Return the pairs of `--metadata`."""
    notes = {}
    for text in texts or []:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise typer.BadParameter(f"expected KEY=VALUE, got {text[:40]!r}", param_hint="--metadata")
        notes[key] = value
    return notes
