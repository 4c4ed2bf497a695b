"""`mira-queue retry`: failed jobs once more."""

from __future__ import annotations

from mira_queue.contract.states import FINAL
from producer.cli import output
from producer.cli.outcome import Json
from producer.cli.status import Ids
from producer.cli.verdicts import for_each
from producer.client import Job

HELP_END = output.help_end(
    [("mira-queue retry ID", "after the account was topped up, the key renewed, the outage over")],
    {0: "all are queued again", 1: "some had not failed, or were not found", 2: "wrong usage or setting"},
)


def retry(ids: Ids, as_json: Json = False) -> None:
    """Queue failed jobs again.

    Each keeps its id; its attempts and crashes are counted from zero. A failed job is never tried again by
    itself. The same request fails again where the job is to blame (bad_request, unprocessable, ...); where the account
    or the service was, it can succeed now.
    """
    for_each(
        ids,
        Job.retry,
        done="is queued again",
        refused=lambda state: (
            f"has not failed: it is {state}" if state in FINAL else f"has not ended yet: it is {state}"
        ),
        as_json=as_json,
    )
