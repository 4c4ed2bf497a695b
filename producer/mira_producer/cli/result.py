"""`mira-queue result`: wait for the outcome of a job, and print it, as `enqueue --wait` does, too."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import typer

from mira_producer.cli import console
from mira_producer.cli.options import Json
from mira_producer.client import Job, MiraQueue, unfinished
from mira_queue.contract.errors import JobCancelled, ResultTimeout
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.states import JobState

# A worker that is just starting needs about this long to report itself.
HINT_AFTER_S = 3.0

Wait = Annotated[bool, typer.Option("--wait", help="Wait until the job has finished.")]
Timeout = Annotated[
    float | None, typer.Option(min=0, metavar="SECONDS", help="Wait for at most this long. Implies --wait.")
]

OUTCOME_CODES = {
    0: "answered: the text is on standard output",
    1: "failed: the job (code, HTTP status and detail on standard error), or the command",
    2: "wrong usage, input or setting",
    4: "not finished; the job continues",
    130: "interrupted while waiting; the job continues",
}
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
                _print_json(job_id, state)
            else:
                console.error(f"job {job_id} is {state}: it has not finished (--wait waits for it)")
            raise typer.Exit(console.EXIT_NOT_ENDED) from None
        show(job_id, outcome, as_json)


def wait_for(queue: MiraQueue, job: Job, timeout_s: float | None) -> Outcome:
    """Wait for the job's outcome, and print a hint if no worker is running. Raises ResultTimeout, JobNotFound."""
    hint_after_s = HINT_AFTER_S if timeout_s is None else min(HINT_AFTER_S, timeout_s / 2)
    with suppress(ResultTimeout):
        return job.outcome(hint_after_s)
    if problem := queue.no_worker(job.status().account):
        console.error(f"{problem}: start one in another terminal with `mira-queue worker`; waiting ...")
    try:
        return job.outcome(None if timeout_s is None else timeout_s - hint_after_s)
    except ResultTimeout:
        raise unfinished(job.id, timeout_s) from None


def show(job_id: str, outcome: Outcome, as_json: bool) -> None:
    """Print the completion's text, or how the job failed. Raises typer.Exit for a failed job."""
    if isinstance(outcome, Completion):
        if as_json:
            _print_json(job_id, JobState.SUCCEEDED, completion=outcome.to_dict())
        else:
            console.data(outcome.text)
        return
    state = JobState.CANCELLED if outcome.code == JobCancelled.code else JobState.FAILED
    if as_json:
        _print_json(job_id, state, error=outcome.to_dict())
    else:
        status = f" ({outcome.status})" if outcome.status else ""
        line = f"job {job_id} {state}{'' if outcome.code == state else f': {outcome.code}{status}'}"
        lost = f"; calls that got no response and may have been billed: {outcome.unanswered_calls}"
        console.error(f"{line}: {console.one_line(outcome.detail)}{lost if outcome.unanswered_calls else ''}")
    raise typer.Exit(console.EXIT_FAILED)


def _print_json(job_id: str, state: JobState, **of_outcome: dict[str, Any]) -> None:
    console.json_data({"id": job_id, "state": state, "completion": None, "error": None, **of_outcome})
