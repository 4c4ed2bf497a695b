"""Batches at a terminal: how they are shown, and the commands that act on one."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mira_queue.contract.batch import Batch
from producer.cli import output
from producer.cli.outcome import Json
from producer.client import MiraQueue

BatchId = Annotated[str, typer.Argument(metavar="BATCH", help="Id of a batch, as submit prints it.")]

COLUMNS = ("batch", "status", "done", "failed", "total", "tokens", "created", "input", "note")
WATCH_EVERY_S = 1.0

LIST_HELP_END = output.help_end(
    [
        ("mira-queue batches", "all batches that are kept, the newest first"),
        ("mira-queue batches --json | jq -r '.[] | select(.status == \"in_progress\") | .id'", "which are running?"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)
PAUSE_HELP_END = output.help_end(
    [("mira-queue pause BATCH", "calls in flight end; nothing more of it is sent")],
    {0: "it will pause", 1: "there is no such batch, or it has ended", 2: "wrong usage or setting"},
)
RESUME_HELP_END = output.help_end(
    [("mira-queue resume BATCH", "after the account was topped up, say: one line goes first, to try")],
    {0: "it will go on", 1: "there is no such batch, or it is not paused", 2: "wrong usage or setting"},
)


def batches(as_json: Json = False) -> None:
    """List the batches.

    \b
    status  validating, in_progress, finalizing, completed, failed, expired, cancelling, cancelled
    done    lines that are answered
    failed  lines that are in the error file
    note    why it is paused, or what it waits for

    A batch that has ended is kept for MIRA_RESULT_TTL.
    """
    with MiraQueue() as queue:
        found = queue.batches.all()
    if as_json:
        output.json_data([batch.to_object() for batch in found])
    elif found:
        output.table(COLUMNS, [row(batch) for batch in found])
    else:
        output.message("no batches: mira-queue submit FILE makes one")


def pause(batch_id: BatchId) -> None:
    """Send no more of a batch.

    Calls in flight end, the other lines stay as they are.
    """
    _act(lambda queue: queue.batches.pause(batch_id), f"batch {batch_id} is asked to pause")


def resume(batch_id: BatchId) -> None:
    """Let a paused batch go on.

    Where the account had refused, one line goes first; the rest follows when it is answered, or it pauses again.
    """
    _act(lambda queue: queue.batches.resume(batch_id), f"batch {batch_id} goes on")


def _act(act: Callable[[MiraQueue], None], done: str) -> None:
    with MiraQueue() as queue:
        act(queue)
    output.message(done)


def watch(queue: MiraQueue, batch_id: str) -> Batch:
    """Show a batch until it has ended or is paused: a live line on a terminal, elsewhere a line for every change."""
    batch = queue.batches.get(batch_id)
    console = Console(stderr=True)
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    shown = ""
    with live or nullcontext():
        while True:
            line = sentence(batch)
            if live is not None:
                live.update(Text(line, overflow="ellipsis", no_wrap=True), refresh=True)
            elif line != shown:
                output.message(line)
            shown = line
            if batch.status.is_final or batch.paused:
                return batch
            time.sleep(WATCH_EVERY_S)
            batch = queue.batches.get(batch_id)


def sentence(batch: Batch) -> str:
    """The batch in a line."""
    failed = f", {batch.failed:,} failed" if batch.failed else ""
    why = (batch.paused and f"; paused: {batch.paused}") or (batch.note and f"; {batch.note}")
    return f"{batch.status}: {batch.answered:,} of {batch.total:,} answered{failed}{why}"


def row(batch: Batch) -> tuple[str, ...]:
    """As a table shows it."""
    errors = "; ".join(f"line {each.line}: {each.message}" if each.line else each.message for each in batch.errors[:3])
    tokens = batch.prompt_tokens + batch.completion_tokens
    return (
        batch.id,
        batch.status,
        f"{batch.answered:,}",
        f"{batch.failed:,}",
        f"{batch.total:,}",
        f"{tokens:,}" if tokens else "",
        output.local_time(batch.created_at * 1000),
        batch.input_name,
        (batch.paused and f"paused: {batch.paused}") or batch.note or errors,
    )
