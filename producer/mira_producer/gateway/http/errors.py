"""Errors of the gateway in OpenAI's format, and the one table that translates our error classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from mira_producer.batches.client import BatchRefused
from mira_producer.gateway.http.spelling import http_spelling
from mira_producer.jsonl.errors import InputError, InvalidInput, StorageFull
from mira_queue.contract.errors import (
    AccountConflict,
    AccountFault,
    BatchNotFound,
    Cause,
    IdempotencyConflict,
    InvalidRequest,
    JobError,
    JobNotFound,
    MiraQueueError,
    QueueUnavailable,
    QueueUnusable,
    ResultTimeout,
    UnknownAccount,
)
from mira_queue.contract.project_limits import LimitReached

# An SDK that gets a longer `Retry-After` gives up immediately.
MAX_RETRY_AFTER_S = 120
# A server that restarts or fails over is back within seconds.
QUEUE_RETRY_AFTER_S = 2.0

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
# The SDKs retry these statuses unless `x-should-retry` says no.
_RETRIED = frozenset({408, 409, 429})


class ApiError(Exception):
    """A response that is not a success. `param` is the path of the wrong parameter; `code` is for programs.

    `kind` is OpenAI's error type; if it is not given, it follows from the status. `should_retry` tells an SDK whether
    the same request can succeed; None leaves that to the status. `retry_after_s` is the wait before that.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "",
        should_retry: bool | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param
        self.kind = kind or _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
        self.should_retry = should_retry
        self.retry_after_s = retry_after_s
        self._headers = headers or {}

    def to_object(self) -> dict[str, Any]:
        """Return the body. All four fields are always there."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    @property
    def headers(self) -> dict[str, str]:
        headers = dict(self._headers)
        if self.should_retry is not None:
            headers["x-should-retry"] = "true" if self.should_retry else "false"
        if self.retry_after_s is not None:
            headers["retry-after"] = str(min(MAX_RETRY_AFTER_S, max(1, math.ceil(self.retry_after_s))))
        return headers


def invalid(param: str | None, message: str, code: str = "invalid_value") -> ApiError:
    """Return the error for a parameter that the caller has to change."""
    return ApiError(400, message if param is None else f"{param}: {message}", code=code, param=param)


def not_found(kind: str, an_id: str, param: str = "id") -> ApiError:
    """Return the error for an object that does not exist, has expired, or belongs to another project."""
    return ApiError(404, f"no {kind} {an_id[:80]!r}: the id is wrong, or it has expired", code="not_found", param=param)


def conflict(message: str, code: str) -> ApiError:
    """Return the error for an object whose state does not allow the request. A retry would get the same error."""
    return ApiError(409, message, code=code, should_retry=False)


def server_error() -> ApiError:
    """Return the error for a bug of ours. The log has its traceback, under the request id."""
    return ApiError(500, "unexpected error in the gateway: its log names this request id", code="internal_error")


def is_retried(status: int) -> bool:
    """Return True if SDKs retry a request that gets this status, unless `x-should-retry` says no."""
    return status in _RETRIED or status >= 500


def _of_job(error: JobError) -> ApiError:
    """Return the error for a job that has failed. Each class of the tree keeps the meaning of its status.

    A rejected account is not the caller's key: a 401 would tell the caller to change the wrong one.
    """
    status = error.status or 0
    if error.cause is Cause.JOB:
        status = status if 400 <= status < 500 and status not in _RETRIED else 400
        return ApiError(status, error.detail, code=error.code, should_retry=False)
    if isinstance(error, AccountFault):
        kind = "insufficient_quota" if status == 402 else ""
        return ApiError(
            status if status in (402, 403) else 502, error.detail, code=error.code, kind=kind, should_retry=False
        )
    return ApiError(502, error.detail, code=error.code, should_retry=False)


# The first entry that matches applies. A test fails if an error class of ours is missing.
TABLE: tuple[tuple[type[MiraQueueError], Callable[[Any], ApiError]], ...] = (
    (InvalidRequest, lambda error: invalid(error.field, error.reason, error.code)),
    (
        IdempotencyConflict,
        # Its message has the key and the job as the ledger names them, which are not the caller's.
        lambda _: ApiError(
            422, "key: it belongs to another request: choose another key", code="idempotency_key_reused", param="key"
        ),
    ),
    (JobNotFound, lambda error: not_found("job", error.job_id)),
    (BatchNotFound, lambda error: not_found("batch", error.batch_id)),
    (LimitReached, lambda error: ApiError(429, str(error), code=f"max_{error.limit}_reached", should_retry=False)),
    (UnknownAccount, lambda error: invalid("account", str(error), "unknown_account")),
    (AccountConflict, lambda error: ApiError(500, str(error), code="account_conflict", should_retry=False)),
    (QueueUnusable, lambda error: ApiError(503, str(error), code="queue_unusable", should_retry=False)),
    (
        QueueUnavailable,
        lambda error: ApiError(
            503, str(error), code="queue_unavailable", should_retry=True, retry_after_s=QUEUE_RETRY_AFTER_S
        ),
    ),
    (ResultTimeout, lambda error: ApiError(504, str(error), code="not_finished", should_retry=True)),
    (JobError, _of_job),
    (BatchRefused, lambda error: conflict(http_spelling(str(error)), "invalid_state")),
    (StorageFull, lambda error: storage_full(error.reason)),
    (InvalidInput, lambda error: invalid(error.problems[0].field, error.problems[0].reason, error.problems[0].code)),
    (InputError, lambda error: invalid(None, http_spelling(error.brief))),
)


def storage_full(reason: str) -> ApiError:
    """Return the error for a full or failing disk of the gateway. A retry of the same upload does not help."""
    return ApiError(
        507, f"the gateway's storage: {reason}: nothing was stored", code="storage_full", should_retry=False
    )


def translated(error: MiraQueueError) -> ApiError | None:
    """Return the response for an error of ours; None if the table has no entry for it."""
    return next((to_error(error) for kind, to_error in TABLE if isinstance(error, kind)), None)
