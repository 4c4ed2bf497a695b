"""The error tree. Each JobError class answers two questions: can the job be retried, and what is the cause?

    MiraQueueError
    ├── InvalidRequest              rejected before it costs a call; names the field
    ├── IdempotencyConflict         the key belongs to another request
    ├── JobNotFound                 never accepted by this queue, or expired
    ├── BatchNotFound               never submitted to this queue, or expired
    ├── UnknownAccount              no account has this name
    ├── AccountConflict             the queue knows this account with another base URL
    ├── QueueUnavailable            the queue's server is down
    │   └── QueueUnusable           it responds, but never as the queue needs it
    │       └── NewerLedger         its data belongs to a newer version of mira-queue
    ├── ResultTimeout               the job has not finished in time; it continues
    │
    │                               HTTP status or event                              cause    can be retried
    └── JobError                    the job ended without a completion
        ├── JobFault                                                                  job      no
        │   ├── BadRequest          400
        │   ├── NotFound            404
        │   ├── Gone                410
        │   ├── TooLarge            413
        │   ├── Unprocessable       422
        │   │   └── ContentBlocked  422, by moderation
        │   ├── RequestRejected     any other 4xx
        │   ├── NeverAdmitted       429 repeatedly, others succeed                    job      yes
        │   ├── Redirected          3xx: MIRA_API_BASE is wrong
        │   ├── Poison              a dead letter: its worker crashed too often       job      yes
        │   └── InternalError       an exception in the worker's code                 job      yes
        ├── AccountFault                                                              account  yes
        │   ├── InvalidKey          401
        │   ├── BalanceUsedUp       402
        │   ├── ModelNotInPlan      403
        │   └── Forbidden           403 without a reason: a wrong path, or a firewall
        ├── ServiceFault            stored when no attempt is left                    service  yes
        │   ├── ServerTimeout       408
        │   ├── ServerError         5xx; 409, 425, 498
        │   ├── Unreachable         no response: refused, reset, timed out
        │   └── InvalidResponse     200 without a complete chat completion
        ├── RateLimited             429: never stored, the job waits                  account  yes
        ├── JobExpired              its deadline passed before its call started       job      yes
        └── JobCancelled            cancelled by its user                             job      yes

The arguments of a JobError are JSON values. Any Celery result backend can store it and return it with its type.
The rows come from the API's error table. RequestRejected and ServerError stand for the statuses that it does not list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, ClassVar

from mira_queue.contract.problem import INVALID_REQUEST


class Cause(StrEnum):
    """The part that has to change before the job can succeed."""

    JOB = "job"
    ACCOUNT = "account"
    SERVICE = "service"


class MiraQueueError(Exception):
    """Base class of all errors that mira-queue raises."""


class InvalidRequest(MiraQueueError, ValueError):
    """The API would reject this request. `field` is the path of the wrong field, such as `messages[3].content`."""

    def __init__(self, field: str, reason: str, code: str = INVALID_REQUEST) -> None:
        super().__init__(field, reason, code)
        self.field = field
        self.reason = reason
        self.code = code

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class IdempotencyConflict(MiraQueueError):
    """The idempotency key belongs to job `job_id`, which has another request."""

    def __init__(self, key: str, job_id: str) -> None:
        super().__init__(key, job_id)
        self.key = key
        self.job_id = job_id

    def __str__(self) -> str:
        return f"idempotency key {self.key!r} belongs to job {self.job_id}, which has another request: use another key"


class JobNotFound(MiraQueueError):
    """The queue has no such job: it was never accepted, or it expired after MIRA_RESULT_TTL."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id} in this queue: the id is wrong, or the job expired after MIRA_RESULT_TTL"


class BatchNotFound(MiraQueueError, LookupError):
    """The queue has no such batch: it was never submitted, or it expired after MIRA_RESULT_TTL."""

    def __init__(self, batch_id: str) -> None:
        super().__init__(batch_id)
        self.batch_id = batch_id

    def __str__(self) -> str:
        return (
            f"no batch {self.batch_id!r} in this queue: the id is wrong (mira-queue batches lists all), "
            "or the batch expired after MIRA_RESULT_TTL"
        )


class UnknownAccount(MiraQueueError, LookupError):
    """No account has this name here: it is in no accounts file, and not that of MIRA_ACCOUNT."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = known

    def __str__(self) -> str:
        known = f"known are {', '.join(self.known)}" if self.known else "define it in accounts.toml"
        return f"no account {self.name[:80]!r}: {known}"


class AccountConflict(MiraQueueError):
    """Jobs of this account belong to `recorded`, the base URL that this queue knows. None is sent to `base`."""

    def __init__(self, account: str, base: str, recorded: str) -> None:
        super().__init__(account, base, recorded)
        self.account = account
        self.base = base
        self.recorded = recorded

    def __str__(self) -> str:
        return (
            f"account {self.account} calls {self.recorded} in this queue, and {self.base} here: correct the base, use "
            f"another name, or move its jobs: mira-queue accounts adopt {self.account} --allow-other-base"
        )


class QueueUnavailable(MiraQueueError):
    """The queue's server does not respond. A job for which no id was returned may not have been accepted."""


class QueueUnusable(QueueUnavailable):
    """The queue's server responds, but waiting does not help: wrong password, missing permission, a cluster."""


class NewerLedger(QueueUnusable):
    """The data of the queue's server is in the format of a newer version, which this version must not change."""


class ResultTimeout(MiraQueueError, TimeoutError):
    """The job has not finished in time. It continues, and its result can be requested again."""


_BY_CODE: dict[str, type[JobError]] = {}
_BY_STATUS: dict[int, type[JobError]] = {}


class JobError(MiraQueueError):
    """The job ended without a completion.

    `detail` is a message for people. `status` is the HTTP status, or None if there was no response. `attempts` counts
    the calls that were charged to the job. `unanswered_calls` counts those whose response was lost; they may have been
    billed. `body` is the response's body if it was JSON. `request_id` is the server's name for the call.
    `lost_usage` has the tokens of responses that were paid for and could not be used.
    """

    code: ClassVar[str] = "error"
    cause: ClassVar[Cause] = Cause.JOB
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls, *, code: str | None = None, status: int | None = None) -> None:
        """Register the class by its code and by the HTTP status that it stands for."""
        if code is not None:
            cls.code = code
            _BY_CODE[code] = cls
        if status is not None:
            _BY_STATUS[status] = cls

    def __init__(
        self,
        detail: str,
        status: int | None = None,
        attempts: int = 0,
        unanswered_calls: int = 0,
        body: Any = None,
        request_id: str | None = None,
        lost_usage: Mapping[str, int] | None = None,
        *_: Any,  # arguments that a newer version adds
    ) -> None:
        super().__init__(detail, status, attempts, unanswered_calls, body, request_id, dict(lost_usage or {}))
        self.detail = detail
        self.status = status
        self.attempts = attempts
        self.unanswered_calls = unanswered_calls
        self.body = body
        self.request_id = request_id
        self.lost_usage: Mapping[str, int] = dict(lost_usage or {})

    def __str__(self) -> str:
        return f"{self.code}{f' ({self.status})' if self.status else ''}: {self.detail}"


class JobFault(JobError):
    """The same request would fail again."""


class BadRequest(JobFault, code="bad_request", status=400): ...


class NotFound(JobFault, code="not_found", status=404): ...


class Gone(JobFault, code="gone", status=410): ...


class TooLarge(JobFault, code="too_large", status=413): ...


class Unprocessable(JobFault, code="unprocessable", status=422): ...


class ContentBlocked(Unprocessable, code="content_blocked"): ...


class RequestRejected(JobFault, code="refused"): ...


class NeverAdmitted(JobFault, code="never_admitted"):
    """The job was rate-limited again and again while other jobs of the account were accepted."""

    retryable = True


class Redirected(JobFault, code="redirected"): ...


class Poison(JobFault, code="poison"):
    retryable = True


class InternalError(JobFault, code="internal_error"):
    """A bug of ours or of a library. A newer version may run the same request."""

    retryable = True


class AccountFault(JobError):
    """Every job of this key, or of this key and model, fails until the account is fixed."""

    cause = Cause.ACCOUNT
    retryable = True


class InvalidKey(AccountFault, code="invalid_key", status=401): ...


class BalanceUsedUp(AccountFault, code="balance_used_up", status=402): ...


class ModelNotInPlan(AccountFault, code="model_not_in_plan", status=403): ...


class Forbidden(AccountFault, code="forbidden"):
    """The server gave no reason. Mira responds to a wrong path in this way."""


class ServiceFault(JobError):
    """The service failed. A retry may succeed."""

    cause = Cause.SERVICE
    retryable = True


class ServerTimeout(ServiceFault, code="server_timeout", status=408): ...


class ServerError(ServiceFault, code="server_error"): ...


class Unreachable(ServiceFault, code="unreachable"): ...


class InvalidResponse(ServiceFault, code="broken_answer"): ...


class RateLimited(JobError, code="rate_limited", status=429):
    """The account has reached a limit. The job waits; this error is never its outcome."""

    cause = Cause.ACCOUNT
    retryable = True


class JobExpired(JobError, code="expired"):
    """The job's deadline passed before its call could start."""

    retryable = True


class JobCancelled(JobError, code="cancelled"):
    """The job was cancelled before it had an outcome."""

    retryable = True


ERROR_CODES = frozenset(_BY_CODE)
_BY_NAME = {kind.__name__: kind for kind in _BY_CODE.values()}


# Conflict, Too Early, and Groq's "capacity exceeded": the same request succeeds later.
RETRIED_STATUSES = frozenset({409, 425, 498})


def error_for_status(status: int) -> type[JobError]:
    """Return the class for an HTTP status other than 2xx."""
    if status in RETRIED_STATUSES:
        return ServerError
    others: dict[int, type[JobError]] = {3: Redirected, 4: RequestRejected}
    return _BY_STATUS.get(status) or others.get(status // 100, ServerError)


def error_for_code(code: str) -> type[JobError]:
    """Return the class for a stored code, or JobError if a newer version stored it."""
    return _BY_CODE.get(code, JobError)


def error_codes() -> list[str]:
    """Return the codes of all errors of jobs."""
    return sorted(_BY_CODE)


def error_named(name: str) -> type[JobError]:
    """Return the class of this name, as a result backend stores it, or JobError if a newer version stored it."""
    return _BY_NAME.get(name, JobError)
