"""Action on several jobs and batches, with a message for each: `cancel` and `retry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import typer

from mira_producer.batches.client import Batches, BatchRefused
from mira_producer.cli import console
from mira_producer.cli.queues import Queues
from mira_producer.client import Job, MiraQueue
from mira_queue.contract.batch import is_batch_id
from mira_queue.contract.errors import BatchNotFound, JobNotFound
from mira_queue.contract.states import JobState


@dataclass(frozen=True, slots=True)
class ToJobs:
    """Action on a job, and its message. `act` returns False if the state of the job did not allow it."""

    act: Callable[[Job], bool]
    done: str
    refused: Callable[[JobState], str]


@dataclass(frozen=True, slots=True)
class ToBatches:
    """Action on a batch, and its message. `act` raises BatchRefused with the reason if it is not possible."""

    act: Callable[[Batches, str], None]
    done: str


def for_each(ids: Sequence[str], to_jobs: ToJobs, to_batches: ToBatches, *, as_json: bool) -> None:
    """Act on every job and batch, in the order of the IDs. JSON has the result for each job, and each batch object.

    Raises typer.Exit at the end if one of the actions was not possible.
    """
    shown: list[dict[str, Any]] = []
    all_done = True
    with Queues() as queues:
        for each in ids:
            queue = queues.of(each)
            if is_batch_id(each):
                all_done &= _to_batch(queue, each, to_batches)
                with suppress(BatchNotFound):
                    shown.append(queue.ledger.batch(each).to_object())
            else:
                verdict = _to_job(queue, each, to_jobs)
                all_done &= verdict["done"]
                shown.append(verdict)
    if as_json:
        console.json_data(shown)
    if not all_done:
        raise typer.Exit(console.EXIT_FAILED)


def _to_job(queue: MiraQueue, job_id: str, to_jobs: ToJobs) -> dict[str, Any]:
    job = queue.job(job_id)
    try:
        acted = to_jobs.act(job)
        state = job.status().state
    except JobNotFound as error:
        console.error(str(error))
        return {"id": job_id, "done": False, "state": None}
    console.error(f"job {job_id} {to_jobs.done if acted else to_jobs.refused(state)}")
    return {"id": job_id, "done": acted, "state": state}


def _to_batch(queue: MiraQueue, batch_id: str, to_batches: ToBatches) -> bool:
    try:
        to_batches.act(queue.batches, batch_id)
    except (BatchNotFound, BatchRefused) as error:
        console.error(str(error))
        return False
    console.message(f"batch {batch_id} {to_batches.done}")
    return True
