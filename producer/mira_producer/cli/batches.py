"""Batches at a terminal: the texts that show them, and the commands about one of them."""

from __future__ import annotations

import sys
import time

from rich.console import Console

from mira_producer.cli import batch_view as view
from mira_producer.cli import console
from mira_producer.cli.options import BatchId, Changed, Json, MaxCost, MaxRequests, MaxTokens
from mira_producer.cli.progress import make_display, plain_line
from mira_producer.cli.queues import Queues
from mira_producer.client import MiraQueue
from mira_producer.engine.wait_reason import NOTHING, reason_text
from mira_producer.text import flow
from mira_queue.contract.batch import Batch, BatchStatus

COLUMNS = ("batch", "status", "done", "failed", "total", "tokens", "cost", "left", "created", "input", "note")
SHOWN_ERRORS = 20
WATCH_EVERY_S = 1.0

LIST_HELP_END = console.help_end(
    [
        ("mira-queue batches", "all batches, the newest first"),
        ("mira-queue batches --json | jq -r '.[] | select(.status == \"in_progress\") | .id'", "running batches"),
    ],
    {0: "shown", 2: "wrong usage or setting"},
)
PAUSE_HELP_END = console.help_end(
    [("mira-queue pause BATCH", "calls in flight finish; no more lines are sent")],
    {0: "pause requested", 1: "there is no such batch, or it has ended", 2: "wrong usage or setting"},
)
RESUME_HELP_END = console.help_end(
    [
        ("mira-queue resume BATCH", "for example, after the account was topped up: one line is sent first, as a check"),
        ("mira-queue resume BATCH --max-cost 20", "with a larger budget, which includes what was used before"),
    ],
    {0: "resume requested", 1: "there is no such batch, or it is not paused", 2: "wrong usage or setting"},
)


def batches(as_json: Json = False) -> None:
    """List the batches.

    \b
    status  validating, in_progress, finalizing, completed, failed, expired,
            cancelling, cancelled; on a terminal also paused, and stopped (a run)
    done    lines that have an answer
    failed  lines that are in the error file
    tokens  input and output tokens of its answers
    cost    cost of its answers, by its price table
    left    time left at the current rate
    note    why it is paused, or what it waits for

    Runs (mira-queue run) are batches, too. A batch that has ended expires after MIRA_RESULT_TTL.
    """
    with Queues() as queues:
        found = queues.all_batches()
    if as_json:
        console.json_data([batch.to_object() for batch in found])
    elif found and sys.stdout.isatty():
        terminal = Console()
        for batch in found:
            console.say(terminal, "\n    ".join(overview(batch, terminal.width - 4)))
    elif found:
        console.table(COLUMNS, [row(batch) for batch in found])
    else:
        console.message("no batches: mira-queue submit FILE starts one")


def pause(batch_id: BatchId) -> None:
    """Pause a batch: send no more of its lines.

    Calls in flight finish, and the other lines stay pending. A paused mira-queue run waits for a resume.
    """
    with Queues() as queues:
        queues.of(batch_id).batches.pause(batch_id)
    console.message(f"batch {batch_id}: pause requested")


def resume(
    batch_id: BatchId,
    max_requests: MaxRequests = None,
    max_tokens: MaxTokens = None,
    max_cost: MaxCost = None,
    changed: Changed = None,
) -> None:
    """Resume a paused batch.

    If the account was rejected, one line is sent first; the others follow when it is not rejected, or the batch pauses
    again. A batch whose budget is used up needs a larger budget.
    """
    with Queues() as queues:
        queues.of(batch_id).batches.resume(
            batch_id, max_requests=max_requests, max_tokens=max_tokens, max_cost=max_cost, changed=changed
        )
    console.message(f"batch {batch_id}: resume requested")


def watch(queue: MiraQueue, batch_id: str) -> Batch:
    """Show a batch until it has ended or is paused: live lines on a terminal, elsewhere a line every ten seconds."""
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
                # In a file, the next line comes in ten seconds: the first one shows that the command works.
                display.say(plain_line(batch))
                is_first = False
            elif not batch.paused:
                display.show(batch)
            time.sleep(WATCH_EVERY_S)


def card(batch: Batch) -> list[tuple[str, str]]:
    """Return what `status` shows of a batch on a terminal: names and values."""
    began = f"{'started' if batch.is_run else 'submitted'} {console.local_time(batch.created_at * 1000)}"
    return [
        ("batch", f"{batch.id}, {batch.input_name}, {began}"),
        ("status", view.status_text(batch)),
        *([("lines", plain_line(batch, NOTHING))] if batch.total else []),
        *([("paused", batch.paused)] if batch.paused else []),
        *([("now", reason_text(view.reason_of(batch)))] if batch.waiting.words else []),
        *([("server", said)] if (said := view.reason_of(batch).message) else []),
        *([("left out", held)] if (held := view.held_text(batch)) else []),
        *(("wrong", each) for each in view.wrong_lines(batch, SHOWN_ERRORS)),
        *([("lost calls", f"{batch.unanswered_calls:,} may have been billed")] if batch.unanswered_calls else []),
        *([("took", took)] if (took := view.took_text(batch)) else []),
        *([("deadline", console.local_time(batch.options.deadline_s * 1000))] if batch.options.deadline_s else []),
        *(("note", f"{key}={value}") for key, value in batch.metadata.items()),
        ("files", batch.place),
        *([("supervisor", silence)] if (silence := view.silence_text(batch)) else []),
    ]


def overview(batch: Batch, width: int) -> list[str]:
    """Return what a list on a terminal shows of a batch."""
    lines = f"{batch.answered:,} of {batch.total:,}" if batch.total else ""
    failed = f"{batch.failed:,} failed" if batch.failed else ""
    left = f"{view.left_text(batch)} left" if batch.seconds_left is not None else ""
    parts = [f"{batch.id}  {view.status_text(batch):<11}", batch.input_name, lines, failed, view.cost_text(batch), left]
    return [*flow(parts, width, "  ").splitlines(), *map(console.one_line, notes_of(batch))]


def notes_of(batch: Batch) -> list[str]:
    """Return what a user should know about the batch, or do."""
    notes = [
        reason_text(view.reason_of(batch)),
        view.held_text(batch),
        *view.wrong_lines(batch, 3),
        view.silence_text(batch),
    ]
    return [note for note in notes if note]


def row(batch: Batch) -> tuple[str, ...]:
    """Return a batch as a table shows it."""
    tokens = batch.prompt_tokens + batch.completion_tokens
    return (
        batch.id,
        batch.status,
        f"{batch.answered:,}",
        f"{batch.failed:,}",
        f"{batch.total:,}",
        f"{tokens:,}" if tokens else "",
        view.cost_text(batch),
        view.left_text(batch),
        console.local_time(batch.created_at * 1000),
        batch.input_name,
        "; ".join(notes_of(batch)),
    )
