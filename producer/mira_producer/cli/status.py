"""`mira-queue status`: the state of jobs and batches."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from mira_producer.cli import batches, console
from mira_producer.cli.options import Json
from mira_producer.cli.queues import Queues
from mira_queue.contract.batch import Batch, is_batch_id
from mira_queue.contract.errors import BatchNotFound, JobNotFound
from mira_queue.contract.states import JobStatus

Ids = Annotated[
    list[str], typer.Argument(metavar="ID...", help="Ids of jobs and batches, as enqueue and submit print them.")
]

COLUMNS = ("id", "state", "attempts", "crashes", "unanswered", "created", "due", "finished", "reason")

HELP_END = console.help_end(
    [
        ("mira-queue status 6e0956e5-e24f-4a9a-b9d9-907ba2571472", "one job"),
        ("mira-queue status --json ID ID | jq -r '.[] | select(.state == \"failed\") | .id'", "failed jobs"),
        ("mira-queue status BATCH --watch", "the progress of a batch, until it has finished"),
    ],
    {0: "all were found", 1: "some were not found; the others are printed", 2: "wrong usage or setting"},
)


def status(
    ids: Ids,
    watched: Annotated[bool, typer.Option("--watch", help="Show a batch until it has finished or is paused.")] = False,
    as_json: Json = False,
) -> None:
    """Show the state of jobs and batches, and why they wait.

    \b
    state        queued, running, waiting (until `due`), succeeded, failed or cancelled
    attempts     calls charged to the job; a rate-limited call is not charged
    crashes      workers that crashed while they ran the job
    unanswered   calls that got no response and may have been billed
    reason       why the job waits, or the code of its error
    due          when the job is retried

    `mira-queue batches --help` explains the columns of a batch. In a pipe, the columns are separated by tabs and have
    a heading. With --json, the output is a list of objects. A job's times are Unix milliseconds; a batch has the times
    of OpenAI's API.
    """
    if watched and not all(is_batch_id(each) for each in ids):
        raise typer.BadParameter("works for batches only", param_hint="--watch")
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
                    jobs.append(queue.job(each).status())
            except (JobNotFound, BatchNotFound) as error:
                missing = True
                console.error(str(error))
    if as_json:
        console.json_data([*(asdict(each) for each in jobs), *(each.to_object() for each in found)])
        jobs, found = [], []
    if jobs:
        console.table(COLUMNS, [row_of(each) for each in jobs])
    if found and sys.stdout.isatty():
        for batch in found:
            console.card(batches.card(batch))
    elif found:
        console.table(batches.COLUMNS, [batches.row(each) for each in found])
    if missing:
        raise typer.Exit(console.EXIT_FAILED)


def row_of(job: JobStatus) -> tuple[str, ...]:
    """Return a job as a table shows it."""
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
