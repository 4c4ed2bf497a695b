"""`mira-queue cancel`: jobs that shall not be done any more."""

from __future__ import annotations

from mira_producer.batches.client import Batches
from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.status import Ids
from mira_producer.cli.verdicts import ToBatches, ToJobs, for_each
from mira_producer.client import Job

HELP_END = console.help_end(
    [("mira-queue cancel ID ID", "each is told to be cancelled, or why not")],
    {0: "all are cancelled", 1: "some had ended before, or were not found", 2: "wrong usage or setting"},
)


def cancel(ids: Ids, as_json: Json = False) -> None:
    """Cancel jobs and batches that have not ended.

    They get no answer any more. A call that is in flight goes on at the API and may be billed; its answer is dropped.
    """
    for_each(
        ids,
        ToJobs(Job.cancel, "is cancelled", lambda state: f"had ended before: {state}"),
        ToBatches(Batches.cancel, "is asked to end"),
        as_json=as_json,
    )
