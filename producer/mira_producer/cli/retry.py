"""`mira-queue retry`: failed jobs, and failed lines of batches."""

from __future__ import annotations

from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.status import Ids
from mira_producer.cli.verdicts import ToBatches, ToJobs, for_each
from mira_producer.client import Job
from mira_queue.contract.batch import is_batch_id
from mira_queue.contract.states import FINAL

HELP_END = console.help_end(
    [
        ("mira-queue retry ID", "after you have topped up the account or renewed the key, or after an outage"),
        ("mira-queue retry BATCH --status 402 --status 5xx", "only those lines of a batch"),
    ],
    {0: "all are queued again", 1: "some had not failed, or were not found", 2: "wrong usage or setting"},
)


def retry(
    ids: Ids,
    statuses: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="For a batch: only lines with this status (402, 5xx) or code. Repeatable.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Retry failed jobs, or the failed lines of a batch.

    A failed job is never retried automatically. It keeps its ID, and its attempts and crashes are counted from zero.
    If the request itself was the cause (bad_request, unprocessable, ...), it fails again. If the account or the service
    was, it can succeed now.
    """
    if statuses and not all(is_batch_id(each) for each in ids):
        raise typer.BadParameter("is only for batches", param_hint="--status")
    for_each(
        ids,
        ToJobs(
            Job.retry,
            "is queued again",
            lambda state: f"has not {'failed' if state in FINAL else 'finished'}: it is {state}",
        ),
        ToBatches(lambda batches, each: batches.retry(each, statuses or []), "retries its failed lines"),
        as_json=as_json,
    )
