"""`mira-queue result`: the outcome of a job."""

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
        ("mira-queue result ID", "the answer's text, if the job has finished"),
        ("mira-queue result --timeout 60 ID > answer.txt", "wait for it, for at most a minute"),
        ("mira-queue result --json ID | jq .completion.usage", "the token counts of the complete answer"),
    ],
    OUTCOME_CODES,
)


def result(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job's id, as enqueue prints it.")],
    wait: Wait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Print a job's answer, or how it failed.

    The outcome is stored for MIRA_RESULT_TTL, and can be printed any number of times.
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
                console.error(f"job {job_id} is {state}: it has not finished (--wait waits for it)")
            raise typer.Exit(console.EXIT_NOT_ENDED) from None
        show(job_id, outcome, as_json)
