"""`mira-queue result`: what became of a job."""

from __future__ import annotations

from typing import Annotated

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.cli.outcome import OUTCOME_CODES, Timeout, Wait, show, wait_for
from mira_producer.client import MiraQueue
from mira_queue.contract.errors import ResultTimeout

HELP_END = console.help_end(
    [
        ("mira-queue result ID", "the answer's text, if it is there"),
        ("mira-queue result --timeout 60 ID > answer.txt", "wait for it, a minute at most"),
        ("mira-queue result --json ID | jq .completion.usage", "the whole answer, with token counts"),
    ],
    OUTCOME_CODES,
)


def result(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="A job's id, as enqueue prints it.")],
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Print a job's answer, or how it failed.

    Asked again, it answers the same, until MIRA_RESULT_TTL has passed.
    """
    with MiraQueue() as queue:
        job = queue.job(job_id)
        try:
            outcome = wait_for(queue, job, timeout) if wait or timeout is not None else job.outcome(0)
        except ResultTimeout:
            state = job.status().state
            if as_json:
                console.json_data({"id": job_id, "state": state, "completion": None, "error": None})
            else:
                console.error(f"job {job_id} is {state}: it has not ended yet (--wait waits for it)")
            raise typer.Exit(console.EXIT_NOT_ENDED) from None
        show(job_id, outcome, as_json)
