"""Outcome of a job: a completion or an error, as a value and as the record of the result backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mira_queue.contract.errors import JobCancelled, JobError, error_for_code, error_named
from mira_queue.contract.known_fields import known_fields


class _Outcome:
    __slots__: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        # Not `asdict`, which copies the whole response recursively.
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Completion(_Outcome):
    """The API's answer.

    `body` is the whole response. `text` and `finish_reason` are those of the first choice. `usage` has the token
    counts, and is empty if the server sent none. `attempts` counts the calls that are charged to the job.
    `unanswered_calls` counts calls without an answer that may have been billed, too. `latency_ms` is the time of the
    successful call.
    """

    text: str
    finish_reason: str | None
    usage: Mapping[str, Any]
    body: Mapping[str, Any]
    attempts: int = 1
    unanswered_calls: int = 0
    latency_ms: int = 0


@dataclass(frozen=True, slots=True)
class Failure(_Outcome):
    """Error of a job that has no completion.

    `code` is stable and listed in the error tree. `status` is the HTTP status, or None without a response. `detail` is
    the server's message in readable form, and `body` is its JSON, if it sent any. `retryable` is True if the same
    request could succeed later.
    """

    code: str
    detail: str
    status: int | None = None
    attempts: int = 0
    unanswered_calls: int = 0
    retryable: bool = False
    body: Any = None

    def to_error(self) -> JobError:
        """Return the typed exception of this failure."""
        return error_for_code(self.code)(self.detail, self.status, self.attempts, self.unanswered_calls, self.body)

    @classmethod
    def from_error(cls, error: JobError) -> Failure:
        return cls(**{name: getattr(error, name) for name in cls.__slots__})


Outcome = Completion | Failure


def celery_state(outcome: Outcome) -> str:
    """Return the state that Celery shows for this outcome."""
    if isinstance(outcome, Completion):
        return "SUCCESS"
    return "REVOKED" if outcome.code == JobCancelled.code else "FAILURE"


def celery_result(outcome: Outcome) -> dict[str, Any]:
    """Return what Celery's JSON serializer stores: a dict, or an exception as its name and arguments."""
    if isinstance(outcome, Completion):
        return outcome.to_dict()
    error = outcome.to_error()
    return {"exc_type": type(error).__name__, "exc_message": list(error.args), "exc_module": type(error).__module__}


def celery_record(job_id: str, outcome: Outcome, finished: datetime) -> bytes:
    """Return the record that Celery's key-value backends store under a task's key."""
    return orjson.dumps(
        {
            "status": celery_state(outcome),
            "result": celery_result(outcome),
            "traceback": None,
            "children": [],
            "date_done": finished.isoformat(),
            "task_id": job_id,
        }
    )


def outcome_of(result: Any) -> Outcome:
    """Return the outcome in the `result` of Celery's AsyncResult, which is a dict or a typed exception.

    Raises TypeError for the result of another task.
    """
    if isinstance(result, JobError):
        return Failure.from_error(result)
    if isinstance(result, Mapping) and "body" in result:
        return Completion(**known_fields(Completion, result))
    raise TypeError(f"not an outcome of mira-queue: {type(result).__name__}")


def outcome_of_record(record: bytes) -> Outcome:
    """Return the outcome in a record of `celery_record`."""
    result = orjson.loads(record)["result"]
    if "exc_type" in result:
        return Failure.from_error(error_named(result["exc_type"])(*result["exc_message"]))
    return outcome_of(result)
