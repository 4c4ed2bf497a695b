"""`mira-queue cancel` and `mira-queue retry`: one action on several jobs and batches, with a message for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer

from mira_producer.batches.client import Batches, BatchRefused
from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.queues import Queues
from mira_producer.cli.status import Ids
from mira_producer.client import Job
from mira_queue.contract.batch import is_batch_id
from mira_queue.contract.errors import BatchNotFound, JobNotFound
from mira_queue.contract.states import FINAL, JobState

CANCEL_HELP_END = console.help_end(
    [("mira-queue cancel ID ID", "print a line for each")],
    {0: "all are cancelled", 1: "some had finished before, or were not found", 2: "wrong usage or setting"},
)
RETRY_HELP_END = console.help_end(
    [
        ("mira-queue retry ID", "after you have topped up the account or renewed the key, or after an outage"),
        ("mira-queue retry BATCH --status 402 --status 5xx", "only those lines of a batch"),
    ],
    {0: "all are queued again", 1: "some had not failed, or were not found", 2: "wrong usage or setting"},
)


def cancel(ids: Ids, as_json: Json = False) -> None:
    """Cancel jobs and batches that have not finished.

    They get no answer. A call that is in flight continues at the API and may be billed; its answer is dropped.
    """

    def text(done: bool, state: JobState) -> str:
        return "is cancelled" if done else f"has already finished: it is {state}"

    _for_each(ids, (Job.cancel, text), (Batches.cancel, "cancel requested"), as_json=as_json)


def retry(
    ids: Ids,
    statuses: Annotated[
        list[str] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help="For a batch: only lines with this status (402, 5xx) or code. Can be repeated.",
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

    def text(done: bool, state: JobState) -> str:
        return "is queued again" if done else f"has not {'failed' if state in FINAL else 'finished'}: it is {state}"

    which = "retries its failed lines" + (f" that have {' or '.join(statuses)}" if statuses else "")

    def retry_lines(batches: Batches, batch_id: str) -> None:
        batches.retry(batch_id, statuses or [])

    _for_each(ids, (Job.retry, text), (retry_lines, which), as_json=as_json)


def _for_each(
    ids: Sequence[str],
    of_job: tuple[Callable[[Job], bool], Callable[[bool, JobState], str]],
    of_batch: tuple[Callable[[Batches, str], None], str],
    *,
    as_json: bool,
) -> None:
    """Act on every job and batch, in the order of the IDs. JSON has the result for each job, and each batch object.

    The action on a job returns False if the job's state did not allow it. Raises typer.Exit at the end if one of the
    actions was not possible.
    """
    shown: list[dict[str, Any]] = []
    all_done = True
    with Queues() as queues:
        for each in ids:
            queue, is_batch = queues.of(each), is_batch_id(each)
            done, state = False, None
            try:
                if is_batch:
                    of_batch[0](queue.batches, each)
                    done, text = True, f"batch {each}: {of_batch[1]}"
                else:
                    done = of_job[0](job := queue.job(each))
                    state = job.status().state
                    text = f"job {each} {of_job[1](done, state)}"
            except (JobNotFound, BatchNotFound, BatchRefused) as error:
                text = str(error)
            console.error(text)
            all_done &= done
            with suppress(BatchNotFound):
                shown.append(
                    queue.ledger.batch(each).to_object() if is_batch else {"id": each, "done": done, "state": state}
                )
    if as_json:
        console.json_data(shown)
    if not all_done:
        raise typer.Exit(console.EXIT_FAILED)
