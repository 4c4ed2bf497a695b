"""Batches at a terminal: how they are shown, and the commands that act on one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from mira_producer.cli import console
from mira_producer.cli.batch_view import (
    BatchCounts,
    held_text,
    left_text,
    reason_of,
    silence_text,
    took_text,
    wrong_lines,
)
from mira_producer.cli.outcome import Json
from mira_producer.cli.progress import make_display, plain_line
from mira_producer.client import MiraQueue
from mira_producer.engine.wait_reason import NOTHING
from mira_producer.text import flow
from mira_queue.contract.batch import Batch, BatchStatus

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch, as submit prints it.")]

COLUMNS = ("batch", "status", "done", "failed", "total", "tokens", "cost", "left", "created", "input", "note")
SHOWN_ERRORS = 20
WATCH_EVERY_S = 1.0

MaxRequests = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Pause before more calls than that are made; 0: no limit.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Pause before more tokens than that are used; 0: no limit.")
]
MaxCost = Annotated[
    str | None, typer.Option(metavar="AMOUNT", help="Pause at this cost, in the currency of the price table.")
]

LIST_HELP_END = console.help_end(
    [
        ("mira-queue batches", "all batches that are kept, the newest first"),
        ("mira-queue batches --json | jq -r '.[] | select(.status == \"in_progress\") | .id'", "which are running?"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)
PAUSE_HELP_END = console.help_end(
    [("mira-queue pause BATCH", "calls in flight end; nothing more of it is sent")],
    {0: "it will pause", 1: "there is no such batch, or it has ended", 2: "wrong usage or setting"},
)
RESUME_HELP_END = console.help_end(
    [
        ("mira-queue resume BATCH", "after the account was topped up, say: one line goes first, to try"),
        ("mira-queue resume BATCH --max-cost 20", "with a larger budget: what was used before is part of it"),
    ],
    {0: "it will go on", 1: "there is no such batch, or it is not paused", 2: "wrong usage or setting"},
)


def batches(as_json: Json = False) -> None:
    """List the batches.

    \b
    status  validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled
    done    lines that are answered
    failed  lines that are in the error file
    tokens  in and out, of its answers
    cost    by the price table that it was submitted with
    left    time, at the rate of now
    note    why it is paused, or what it waits for

    A batch that has ended is kept for MIRA_RESULT_TTL.
    """
    with MiraQueue() as queue:
        found = queue.batches.all()
    if as_json:
        console.json_data([batch.to_object() for batch in found])
    elif found and sys.stdout.isatty():
        terminal = Console()
        for batch in found:
            console.say(terminal, "\n    ".join(overview(batch, terminal.width - 4)))
    elif found:
        console.table(COLUMNS, [row(batch) for batch in found])
    else:
        console.message("no batches: mira-queue submit FILE makes one")


def pause(batch_id: BatchId) -> None:
    """Send no more of a batch.

    Calls in flight end, the other lines stay as they are.
    """
    _act(lambda queue: queue.batches.pause(batch_id), f"batch {batch_id} is asked to pause")


def resume(
    batch_id: BatchId,
    max_requests: MaxRequests = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
) -> None:
    """Let a paused batch go on.

    Where the account had refused, one line goes first; the rest follows when it is answered, or it pauses again. One
    whose budget is used up needs a larger one.
    """
    _act(
        lambda queue: queue.batches.resume(
            batch_id, max_requests=max_requests, max_tokens=max_tokens, max_cost=max_cost
        ),
        f"batch {batch_id} goes on",
    )


def _act(act: Callable[[MiraQueue], None], done: str) -> None:
    with MiraQueue() as queue:
        act(queue)
    console.message(done)


def watch(queue: MiraQueue, batch_id: str) -> Batch:
    """Show a batch until it has ended or is paused: live lines on a terminal, elsewhere a line now and then."""
    console = Console(stderr=True)
    is_first = True
    with make_display(console) as display:
        while True:
            batch, is_at_rest = queue.batches.look(batch_id)
            if is_at_rest:
                return batch
            if batch.status is BatchStatus.VALIDATING:
                display.say(f"batch {batch.id}: its lines are being checked")
            elif is_first and not console.is_terminal:
                # In a file the next line comes in ten seconds: whoever looks into it sees that somebody is there.
                display.say(plain_line(BatchCounts(batch), reason_of(batch)))
                is_first = False
            elif not batch.paused:
                display.show(BatchCounts(batch), reason_of(batch))
            time.sleep(WATCH_EVERY_S)


def card(batch: Batch) -> list[tuple[str, str]]:
    """Return what `status` shows of a batch to people: names and values."""
    counts = BatchCounts(batch)
    return [
        ("batch", f"{batch.id}, {batch.input_name}, submitted {console.local_time(batch.created_at * 1000)}"),
        ("status", batch.status.value),
        *([("lines", plain_line(counts, NOTHING))] if batch.total else []),
        *([("paused", batch.paused)] if batch.paused else []),
        *([("now", str(reason_of(batch)))] if batch.waiting.words else []),
        *([("left out", held)] if (held := held_text(batch)) else []),
        *(("wrong", each) for each in wrong_lines(batch, SHOWN_ERRORS)),
        *([("lost calls", f"{batch.unanswered_calls:,} may have been billed")] if batch.unanswered_calls else []),
        *([("took", took)] if (took := took_text(batch)) else []),
        *([("deadline", console.local_time(batch.options.deadline_s * 1000))] if batch.options.deadline_s else []),
        *(("note", f"{key}={value}") for key, value in batch.metadata.items()),
        ("files", batch.place),
        *([("keeper", silence)] if (silence := silence_text(batch)) else []),
    ]


def overview(batch: Batch, width: int) -> list[str]:
    """Return what a list on a terminal shows of a batch."""
    lines = f"{batch.answered:,} of {batch.total:,}" if batch.total else ""
    failed = f"{batch.failed:,} failed" if batch.failed else ""
    left = f"{left_text(batch)} left" if batch.seconds_left is not None else ""
    parts = [f"{batch.id}  {batch.status:<11}", batch.input_name, lines, failed, BatchCounts(batch).cost_text(), left]
    return [*flow(parts, width, "  ").splitlines(), *map(console.one_line, notes_of(batch))]


def notes_of(batch: Batch) -> list[str]:
    """What somebody should know of it, or do about it."""
    notes = [
        f"paused: {batch.paused}" if batch.paused else str(reason_of(batch)),
        held_text(batch),
        *wrong_lines(batch, 3),
        silence_text(batch),
    ]
    return [note for note in notes if note]


def row(batch: Batch) -> tuple[str, ...]:
    """As a table shows it."""
    counts = BatchCounts(batch)
    tokens = batch.prompt_tokens + batch.completion_tokens
    return (
        batch.id,
        batch.status,
        f"{batch.answered:,}",
        f"{batch.failed:,}",
        f"{batch.total:,}",
        f"{tokens:,}" if tokens else "",
        counts.cost_text(),
        left_text(batch),
        console.local_time(batch.created_at * 1000),
        batch.input_name,
        "; ".join(notes_of(batch)),
    )
