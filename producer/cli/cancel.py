"""`mira-queue cancel`: jobs that shall not be done any more."""

from __future__ import annotations

import typer

from mira_queue.contract.batch import is_batch_id
from producer.batches.client import Batches
from producer.cli import output
from producer.cli.batches import act_on_each
from producer.cli.outcome import Json
from producer.cli.status import Ids
from producer.cli.verdicts import for_each
from producer.client import Job

HELP_END = output.help_end(
    [("mira-queue cancel ID ID", "each is told to be cancelled, or why not")],
    {0: "all are cancelled", 1: "some had ended before, or were not found", 2: "wrong usage or setting"},
)


def cancel(ids: Ids, as_json: Json = False) -> None:
    """Cancel jobs and batches that have not ended.

    They get no answer any more. A call that is in flight goes on at the API and may be billed; its answer is dropped.
    """
    batch_ids = [each for each in ids if is_batch_id(each)]
    are_cancelled = act_on_each(batch_ids, Batches.cancel, "is asked to end")
    if len(batch_ids) < len(ids):
        for_each(
            [each for each in ids if each not in batch_ids],
            Job.cancel,
            done="is cancelled",
            refused=lambda state: f"had ended before: {state}",
            as_json=as_json,
        )
    if not are_cancelled:
        raise typer.Exit(output.EXIT_FAILED)
