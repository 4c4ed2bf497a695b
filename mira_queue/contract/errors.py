"""The error tree. A class answers: would trying again help, and who is to blame: the job, the account, the service?

    MiraQueueError
    ├── InvalidRequest              refused before it costs a call; names the field
    ├── IdempotencyConflict         the same key, another request
    ├── JobNotFound                 never accepted here, or its outcome has outlived MIRA_RESULT_TTL
    ├── BatchNotFound               never submitted here, or it has outlived MIRA_RESULT_TTL
    ├── QueueUnavailable            the server could not be reached; nothing was accepted, or its state is unknown
    ├── ResultTimeout               the job is not finished yet; it goes on
    └── JobError                    how a job ended without a completion
        ├── JobFault                the job: the same request would fail again
        │   ├── BadRequest          400
        │   ├── NotFound            404
        │   ├── Gone                410
        │   ├── TooLarge            413
        │   ├── Unprocessable       422
        │   │   └── ContentBlocked  422, by moderation
        │   ├── Refused             every other 4xx
        │   ├── Redirected          3xx: MIRA_API_BASE points to the wrong place
        │   ├── Poison              its workers died in the middle of it, again and again
        │   └── InternalError       an exception in the worker's code, at each of its attempts
        ├── AccountFault            the account: every job with this key (or this model) would fail
        │   ├── InvalidKey          401, or no key set
        │   ├── BalanceUsedUp       402
        │   └── ModelNotInPlan      403
        ├── ServiceFault            the service: trying again may help
        │   ├── ServerTimeout       408
        │   ├── ServerError         5xx
        │   ├── Unreachable         no answer: refused, reset, timed out
        │   └── BrokenAnswer        200 without a chat completion in it
        ├── RateLimited             429: never stored, the job waits
        └── JobCancelled            by its owner

A JobError's arguments are JSON, so that it travels through any Celery result backend and comes out typed.
Source of the rows: the API's error table; 4xx and 5xx that it does not list fall to Refused and ServerError.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from mira_queue.contract.problem import INVALID_REQUEST


class Blame(StrEnum):
    """Whose fault an error is."""

    JOB = "job"
    ACCOUNT = "account"
    SERVICE = "service"


class MiraQueueError(Exception):
    """Root of everything this package raises on purpose."""


class InvalidRequest(MiraQueueError, ValueError):
    """The API would reject this request. `field` is its path, such as `messages[3].content`."""

    def __init__(self, field: str, reason: str, code: str = INVALID_REQUEST) -> None:
        super().__init__(field, reason, code)
        self.field = field
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class IdempotencyConflict(MiraQueueError):
    """The idempotency key belongs to a job with another request. `job_id` names it."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(key, job_id)
        self.key = key
        self.job_id = job_id

    def __str__(self) -> str:
        return f"idempotency key {self.key!r} belongs to job {self.job_id}, which has another request: use another key"


class JobNotFound(MiraQueueError):
    """No such job: never accepted by this queue, or kept longer than MIRA_RESULT_TTL and gone."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return (
            f"no job {self.job_id}: the id is wrong, the queue another one, or the outcome older than MIRA_RESULT_TTL"
        )


class BatchNotFound(MiraQueueError, LookupError):
    """No such batch: never submitted to this queue, or it has outlived MIRA_RESULT_TTL."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(batch_id)
        self.batch_id = batch_id

    def __str__(self) -> str:
        return f"no batch {self.batch_id!r} here: see mira-queue batches (or it has outlived MIRA_RESULT_TTL)"


class QueueUnavailable(MiraQueueError):
    """The queue's server does not answer. What was being accepted is safe only if an id was returned."""


class ResultTimeout(MiraQueueError, TimeoutError):
    """The outcome was not there in time; the job goes on and can be asked again."""


class JobError(MiraQueueError):
    """A job's end without a completion.

    `detail` is what a person can read, `status` the HTTP status or None when there was no answer, `attempts` the calls
    that were charged to the job, `unanswered_calls` those whose answer was lost and that may have been billed, `body`
    what the server sent, where that was JSON.
    """

    code: ClassVar[str] = "error"
    blame: ClassVar[Blame] = Blame.JOB
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str,
        status: int | None = None,
        attempts: int = 0,
        unanswered_calls: int = 0,
        body: Any = None,
    ) -> None:
        super().__init__(detail, status, attempts, unanswered_calls, body)
        self.detail = detail
        self.status = status
        self.attempts = attempts
        self.unanswered_calls = unanswered_calls
        self.body = body

    def __str__(self) -> str:
        return f"{self.code}{f' ({self.status})' if self.status else ''}: {self.detail}"


class JobFault(JobError):
    """The same request would fail again."""


class BadRequest(JobFault):
    code = "bad_request"


class NotFound(JobFault):
    code = "not_found"


class Gone(JobFault):
    code = "gone"


class TooLarge(JobFault):
    code = "too_large"


class Unprocessable(JobFault):
    code = "unprocessable"


class ContentBlocked(Unprocessable):
    code = "content_blocked"


class Refused(JobFault):
    code = "refused"


class Redirected(JobFault):
    code = "redirected"


class Poison(JobFault):
    code = "poison"
    retryable = True


class InternalError(JobFault):
    """A bug of ours or of a library. A newer version may run the same request."""

    code = "internal_error"
    retryable = True


class AccountFault(JobError):
    """Every job of this key, or of this key and model, would fail until somebody mends the account."""

    blame = Blame.ACCOUNT
    retryable = True


class InvalidKey(AccountFault):
    code = "invalid_key"


class BalanceUsedUp(AccountFault):
    code = "balance_used_up"


class ModelNotInPlan(AccountFault):
    code = "model_not_in_plan"


class ServiceFault(JobError):
    """Trying again may help; stored only when all attempts are spent."""

    code = "service_fault"
    blame = Blame.SERVICE
    retryable = True


class ServerTimeout(ServiceFault):
    code = "server_timeout"


class ServerError(ServiceFault):
    code = "server_error"


class Unreachable(ServiceFault):
    code = "unreachable"


class BrokenAnswer(ServiceFault):
    code = "broken_answer"


class RateLimited(JobError):
    """A limit of the account. The job waits; this is never its outcome."""

    code = "rate_limited"
    blame = Blame.ACCOUNT
    retryable = True


class JobCancelled(JobError):
    """Cancelled by its owner before it had an outcome."""

    code = "cancelled"
    retryable = True


_BY_STATUS: dict[int, type[JobError]] = {
    400: BadRequest,
    401: InvalidKey,
    402: BalanceUsedUp,
    403: ModelNotInPlan,
    404: NotFound,
    408: ServerTimeout,
    410: Gone,
    413: TooLarge,
    422: Unprocessable,
    429: RateLimited,
}

_STORED: tuple[type[JobError], ...] = (
    *_BY_STATUS.values(),
    ContentBlocked,
    Refused,
    Redirected,
    Poison,
    InternalError,
    ServerError,
    Unreachable,
    BrokenAnswer,
    JobCancelled,
)
_BY_CODE: dict[str, type[JobError]] = {kind.code: kind for kind in _STORED}
_BY_NAME: dict[str, type[JobError]] = {kind.__name__: kind for kind in _STORED}
# What stands as `code` in an error line of a job.
ERROR_CODES = frozenset(_BY_CODE)


def error_for_status(status: int) -> type[JobError]:
    """The class for an HTTP status that is no success (any of 300 to 599, or a number nobody expects)."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return Redirected
    if 400 <= status < 500:
        return Refused
    return ServerError


def error_for_code(code: str) -> type[JobError]:
    """The class that a stored code stands for; JobError for one of a newer version."""
    return _BY_CODE.get(code, JobError)


def error_named(name: str) -> type[JobError]:
    """The class of this name, as result backends keep it; JobError for one of a newer version."""
    return _BY_NAME.get(name, JobError)
