"""`mira-queue status`: where jobs are."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from mira_producer.cli import batches, console
from mira_producer.cli.outcome import Json
from mira_producer.cli.queues import Queues
from mira_queue.contract.batch import Batch, is_batch_id
from mira_queue.contract.errors import BatchNotFound, JobNotFound
from mira_queue.contract.states import JobStatus

Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of jobs or batches, as enqueue and submit print them.")
]

COLUMNS = ("id", "state", "attempts", "crashes", "unanswered", "created", "due", "finished", "reason")

HELP_END = console.help_end(
    [
        ("mira-queue status 6e0956e5-e24f-4a9a-b9d9-907ba2571472", "one job"),
        ("mira-queue status --json ID ID | jq -r '.[] | select(.state == \"failed\") | .id'", "which have failed?"),
        ("mira-queue status BATCH --watch", "how far a batch is, until it has ended"),
    ],
    {0: "all were found", 1: "some were not (the others are shown)", 2: "wrong usage or setting"},
)


def status(
    ids: Ids,
    watched: Annotated[
        bool, typer.Option("--watch", help="Of a batch: go on showing it until it has ended or is paused.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show where jobs and batches are, and why.

    \b
    state        queued, running, waiting (until `due`), succeeded, failed or cancelled
    attempts     calls charged to the job; waiting for a rate limit is none
    crashes      workers that died in the middle of it
    unanswered   calls whose answer was lost; they may have been billed
    reason       why it waits, or the code of its error
    due          when it is tried again

    The columns of a batch are explained by mira-queue batches --help. In a pipe: tab-separated, with a heading. With
    --json: a list of objects, a job's times in Unix milliseconds, a batch's as OpenAI has them.
    """
    if watched and not all(is_batch_id(each) for each in ids):
        raise typer.BadParameter("is for batches", param_hint="--watch")
    jobs: list[JobStatus] = []
    found: list[Batch] = []
    missing = False
    with Queues() as queues:
        for each in ids:
            queue = queues.of(each)
            try:
                if is_batch_id(each):
                    found.append(batches.watch(queue, each) if watched else queue.batches.get(each))
                else:
                    jobs.append(queue.ledger.status(each))
            except (JobNotFound, BatchNotFound) as error:
                missing = True
                console.error(str(error))
    if as_json:
        console.json_data([*(asdict(each) for each in jobs), *(each.to_object() for each in found)])
        jobs, found = [], []
    if jobs:
        console.table(COLUMNS, [_row(each) for each in jobs])
    if found and sys.stdout.isatty():
        for batch in found:
            console.card(batches.card(batch))
    elif found:
        console.table(batches.COLUMNS, [batches.row(each) for each in found])
    if missing:
        raise typer.Exit(console.EXIT_FAILED)


def _row(job: JobStatus) -> tuple[str, ...]:
    return (
        job.id,
        job.state,
        str(job.attempts),
        str(job.crashes),
        str(job.unanswered_calls),
        console.local_time(job.created_ms),
        console.local_time(job.due_ms),
        console.local_time(job.finished_ms),
        job.reason or "",
    )
