"""Wait for a job's outcome, and print it: shared by `enqueue --wait` and `result`."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import Annotated, Any

import typer

from mira_producer.cli import console
from mira_producer.client import Job, MiraQueue
from mira_queue.contract.errors import JobCancelled, QueueUnavailable
from mira_queue.contract.outcome import Completion, Failure, Outcome
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


def wait_for(queue: MiraQueue, job: Job, timeout_s: float | None) -> Outcome:
    """Wait for the job's outcome, and print a hint if no worker is running. Raises ResultTimeout, JobNotFound."""
    hint_after_s = HINT_AFTER_S if timeout_s is None else min(HINT_AFTER_S, timeout_s / 2)
    hint = threading.Timer(hint_after_s, _print_hint, (queue,))
    hint.daemon = True
    hint.start()
    try:
        return job.outcome(timeout_s)
    finally:
        hint.cancel()


def _print_hint(queue: MiraQueue) -> None:
    # Without a server, `outcome` raises the error.
    with suppress(QueueUnavailable):
        if not queue.ledger.live_workers():
            console.error("no worker is running: start one in another terminal with `mira-queue worker`; waiting ...")


def show(job_id: str, outcome: Outcome, as_json: bool) -> None:
    """Print the completion's text, or how the job failed. Raises typer.Exit for a failed job."""
    if as_json:
        console.json_data(outcome_json(job_id, outcome))
    elif isinstance(outcome, Completion):
        console.data(outcome.text)
    else:
        console.error(_failure_line(job_id, outcome))
    if isinstance(outcome, Failure):
        raise typer.Exit(console.EXIT_FAILED)


def outcome_json(job_id: str, outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as a JSON object. `completion` is null if the job failed, and `error` if it was answered."""
    if isinstance(outcome, Completion):
        return {"id": job_id, "state": JobState.SUCCEEDED, "completion": outcome.to_dict(), "error": None}
    return {"id": job_id, "state": _state(outcome), "completion": None, "error": outcome.to_dict()}


def _state(failure: Failure) -> JobState:
    return JobState.CANCELLED if failure.code == JobCancelled.code else JobState.FAILED


def _failure_line(job_id: str, failure: Failure) -> str:
    status = f" ({failure.status})" if failure.status else ""
    state = _state(failure)
    code = "" if failure.code == state else f": {failure.code}{status}"
    line = f"job {job_id} {state}{code}: {console.one_line(failure.detail)}"
    if failure.unanswered_calls:
        line += f"; calls that got no response and may have been billed: {failure.unanswered_calls}"
    return line
