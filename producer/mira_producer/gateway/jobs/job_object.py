"""Our object of a job. Times are Unix seconds, as in OpenAI's objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from typing_extensions import TypedDict

from mira_producer.gateway.jobs.project_key import key_of
from mira_producer.gateway.jobs.response_object import seconds
from mira_producer.gateway.jobs.single_jobs import Found
from mira_queue.contract.job_options import Priority
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.states import JobState, JobStatus


class JobObject(TypedDict):
    """A job. `code` is that of its error, and `waiting_for` the reason for which it has not started."""

    id: str
    object: Literal["job"]
    created_at: int | None
    state: JobState
    model: str
    key: str | None
    priority: Priority
    metadata: dict[str, str]
    account: str
    project: str | None
    attempts: int
    crashes: int
    unanswered_calls: int
    deadline: int | None
    waiting_until: int | None
    waiting_for: str | None
    finished_at: int | None
    code: str | None


class JobError(TypedDict):
    """Error of a job that has failed. `status` is that of the API's response."""

    code: str
    message: str
    status: int | None
    retryable: bool
    request_id: str | None


class FinishedJobObject(JobObject):
    """A job, with its completion or its error when it has finished."""

    completion: Mapping[str, Any] | None
    error: JobError | None


def job_object(job: JobStatus) -> JobObject:
    return {
        "id": job.id,
        "object": "job",
        "created_at": seconds(job.created_ms),
        "state": job.state,
        "model": job.model,
        "key": key_of(job) or None,
        "priority": job.priority,
        "metadata": dict(job.metadata),
        "account": job.account,
        "project": job.project or None,
        "attempts": job.attempts,
        "crashes": job.crashes,
        "unanswered_calls": job.unanswered_calls,
        "deadline": seconds(job.deadline_ms),
        "waiting_until": seconds(job.due_ms),
        "waiting_for": None if job.state.is_final else job.reason,
        "finished_at": seconds(job.finished_ms),
        "code": job.code or None,
    }


def with_outcome(found: Found) -> FinishedJobObject:
    """Return the job, with what is known of its outcome."""
    outcome = found.outcome
    return {
        **job_object(found.job),
        "completion": outcome.body if isinstance(outcome, Completion) else None,
        "error": _error_object(outcome) if isinstance(outcome, Failure) else None,
    }


def _error_object(failure: Failure) -> JobError:
    return {
        "code": failure.code,
        "message": failure.detail,
        "status": failure.status,
        "retryable": failure.retryable,
        "request_id": failure.request_id,
    }
