"""`mira-queue retry`: failed jobs once more."""

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
        ("mira-queue retry ID", "after the account was topped up, the key renewed, the outage over"),
        ("mira-queue retry BATCH --status 402 --status 5xx", "those lines of a batch once more"),
    ],
    {0: "all are queued again", 1: "some had not failed, or were not found", 2: "wrong usage or setting"},
)


def retry(
    ids: Ids,
    statuses: Annotated[
        list[str] | None,
        typer.Option("--status", metavar="STATUS", help="Of a batch: lines with 402, 5xx or a code; repeat for more."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Queue failed jobs, or the failed lines of a batch, again.

    Each keeps its id; its attempts and crashes are counted from zero. A failed job is never tried again by
    itself. The same request fails again where the job is to blame (bad_request, unprocessable, ...); where the account
    or the service was, it can succeed now.
    """
    if statuses and not all(is_batch_id(each) for each in ids):
        raise typer.BadParameter("is for batches", param_hint="--status")
    for_each(
        ids,
        ToJobs(
            Job.retry,
            "is queued again",
            lambda state: f"has not failed: it is {state}" if state in FINAL else f"has not ended yet: it is {state}",
        ),
        ToBatches(
            lambda batches, each: batches.retry(each, statuses or []), "goes on: its failed lines are tried again"
        ),
        as_json=as_json,
    )
