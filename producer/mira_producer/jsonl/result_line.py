"""One line of an output or error file: OpenAI's fields, and ours in its field `mira`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE
from mira_queue.contract.errors import JobCancelled
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.token_estimate import count

# Marks an error that is not final: the line runs again when its run resumes.
RUNS_AGAIN = "runs_again"
# Identifies the request of a line; marks a line of a simulated run.
DIGEST, SIMULATED = "request_digest", "simulated"
# Errors of lines that may never have been sent.
NOT_RUN = frozenset({EXPIRED_CODE, CANCELLED_CODE, JobCancelled.code})


def output_line(
    job_id: str,
    custom_id: str,
    outcome: Outcome,
    *,
    digest: str = "",
    runs_again: bool = False,
    copy_number: int | None = None,
    simulated: bool = False,
) -> bytes:
    """Return a line for the outcome of a job. An error has the server's response and our code.

    `digest` identifies the request. `copy_number` is the number of a line that gets the outcome of another line's job.
    No call was made for it.
    """
    status: int | None
    if isinstance(outcome, Completion):
        status, request_id, body, error = 200, outcome.body.get("id"), outcome.body, None
    else:
        request_id = outcome.request_id
        status, body = outcome.status, {"detail": outcome.detail} if outcome.body is None else outcome.body
        error = {"code": outcome.code, "message": outcome.detail, **({RUNS_AGAIN: True} if runs_again else {})}
    is_copy = copy_number is not None
    # Tokens of responses that were paid for and could not be used.
    lost = {"lost_usage": outcome.lost_usage} if outcome.lost_usage and not is_copy else {}
    line = {
        "id": f"batch_req_{job_id}-{copy_number}" if is_copy else f"batch_req_{job_id}",
        "custom_id": custom_id,
        "response": None if status is None else {"status_code": status, "request_id": request_id, "body": body},
        "error": error,
        "mira": {
            "job_id": job_id,
            "calls": 0 if is_copy else calls_of(outcome),
            **lost,
            **({DIGEST: digest} if digest else {}),
            **({SIMULATED: True} if simulated else {}),
        },
    }
    return json_line(line)


def json_line(entry: Mapping[str, Any]) -> bytes:
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def calls_of(outcome: Outcome) -> int:
    """Return the number of calls made for a job, without those that a limit rejected."""
    lost = outcome.unanswered_calls
    if isinstance(outcome, Completion):
        return max(outcome.attempts, lost + 1)
    return max(0 if outcome.code in NOT_RUN else 1, outcome.attempts, lost)


def calls_of_line(entry: Mapping[str, Any]) -> int:
    """Return the number of calls made for a line. Each may have been billed.

    A line without the field was written by an earlier version, and counts as one call.
    """
    ours = entry.get("mira")
    return count(ours.get("calls")) if isinstance(ours, dict) else 1


def job_id_of(entry: Mapping[str, Any]) -> str:
    """Return the ID of the job whose outcome a line has; empty if an earlier version wrote the line."""
    return str(part_of(entry, "mira").get("job_id", ""))


def digest_of(entry: Mapping[str, Any]) -> str:
    """Return the digest of a line's request; empty if an earlier version or another tool wrote the line."""
    digest = part_of(entry, "mira").get(DIGEST)
    return digest if isinstance(digest, str) else ""


def is_simulated(entry: Mapping[str, Any]) -> bool:
    """Return True if a simulated run wrote a line."""
    return part_of(entry, "mira").get(SIMULATED) is True


def is_retryable(entry: Mapping[str, Any]) -> bool:
    """Return True if an error line says that its line runs again."""
    return part_of(entry, "error").get(RUNS_AGAIN) is True


def part_of(entry: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """Return an object inside a line, which may hold anything; empty if there is none."""
    for name in path:
        found = entry.get(name)
        entry = found if isinstance(found, Mapping) else {}
    return entry


def without_retry(line: bytes) -> bytes:
    """Return a line of an error file as a final one."""
    entry = orjson.loads(line)
    if is_retryable(entry):
        del entry["error"][RUNS_AGAIN]
        line = json_line(entry)
    return line
