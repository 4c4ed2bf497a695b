"""`mira-queue cancel`: jobs and batches that are no longer needed."""

from __future__ import annotations

from mira_producer.batches.client import Batches
from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.status import Ids
from mira_producer.cli.verdicts import ToBatches, ToJobs, for_each
from mira_producer.client import Job

HELP_END = console.help_end(
    [("mira-queue cancel ID ID", "prints a line for each")],
    {0: "all are cancelled", 1: "some had finished before, or were not found", 2: "wrong usage or setting"},
)


def cancel(ids: Ids, as_json: Json = False) -> None:
    """Cancel jobs and batches that have not finished.

    They get no answer. A call that is in flight continues at the API and may be billed; its answer is dropped.
    """
    for_each(
        ids,
        ToJobs(Job.cancel, "is cancelled", lambda state: f"has already finished: it is {state}"),
        ToBatches(Batches.cancel, "cancel requested"),
        as_json=as_json,
    )
