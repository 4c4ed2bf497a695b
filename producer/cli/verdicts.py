"""Doing one thing to each of several jobs, and saying for each whether it was done: shared by `cancel` and `retry`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import typer

from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.states import JobState
from producer.cli import output
from producer.client import Job, MiraQueue


def for_each(
    ids: Sequence[str],
    act: Callable[[Job], bool],
    *,
    done: str,
    refused: Callable[[JobState], str],
    as_json: bool,
) -> None:
    """`act` on each job; `done` and `refused` are what is said.

    Raises typer.Exit when one of them could not be done; the others are.
    """
    verdicts: list[dict[str, Any]] = []
    with MiraQueue() as queue:
        for job_id in ids:
            job = queue.job(job_id)
            try:
                acted = act(job)
                state = job.status().state
            except JobNotFound as error:
                verdicts.append({"id": job_id, "done": False, "state": None})
                output.error(str(error))
                continue
            verdicts.append({"id": job_id, "done": acted, "state": state})
            output.error(f"job {job_id} {done if acted else refused(state)}")
    if as_json:
        output.json_data(verdicts)
    if not all(verdict["done"] for verdict in verdicts):
        raise typer.Exit(output.EXIT_FAILED)
