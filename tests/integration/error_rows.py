"""The API's error table as data: what the simulator is told to do, and what must come of it."""

from __future__ import annotations

from dataclasses import dataclass

from mira_queue.contract import errors
from mira_queue.contract.errors import JobError
from tests.support.queue_process import QUICK

# Server faults are tried so often, everything else once.
MAX_ATTEMPTS = int(str(QUICK["max_attempts"]))


@dataclass(frozen=True)
class Row:
    """`directive` is the simulator's; `detail` must stand in what a person reads; `billed`: calls perhaps billed."""

    directive: str
    kind: type[JobError]
    status: int | None
    detail: str
    calls: int = 1
    billed: int = 0

    @property
    def is_retried(self) -> bool:
        return self.calls > 1


def _terminal(directive: str, kind: type[JobError], status: int, detail: str) -> Row:
    return Row(directive, kind, status, detail)


def _fault(directive: str, kind: type[JobError], status: int | None, detail: str, *, begun: bool) -> Row:
    return Row(directive, kind, status, detail, MAX_ATTEMPTS, MAX_ATTEMPTS if begun else 0)


TERMINAL = [
    _terminal("400", errors.BadRequest, 400, "Bad request"),
    _terminal("401", errors.InvalidKey, 401, "Invalid or expired API key"),
    _terminal("402", errors.BalanceUsedUp, 402, "Insufficient balance"),
    _terminal("403", errors.ModelNotInPlan, 403, "Your plan does not include this model"),
    _terminal("404", errors.NotFound, 404, "Not Found"),
    _terminal("410", errors.Gone, 410, "This API version has been retired"),
    _terminal("413", errors.TooLarge, 413, "Request body too large"),
    _terminal("422", errors.Unprocessable, 422, "Unprocessable request"),
    _terminal("moderation", errors.ContentBlocked, 422, "content_blocked (violence)"),
    _terminal("405", errors.RequestRejected, 405, "Method Not Allowed"),
    _terminal("418", errors.RequestRejected, 418, "Teapot"),
    _terminal("451", errors.RequestRejected, 451, "Legal Reasons"),
    _terminal("499", errors.RequestRejected, 499, "Error 499"),
    _terminal("redirect to=127.0.0.1:9", errors.Redirected, 307, "http://127.0.0.1:9/v1/chat/completions"),
    _terminal("html403", errors.ModelNotInPlan, 403, "Your plan does not include this model"),
    _terminal("text400", errors.BadRequest, 400, "Bad request"),
    _terminal("empty404", errors.NotFound, 404, "HTTP 404 with an empty body"),
    _terminal("openai400", errors.BadRequest, 400, "Bad request (invalid_request_error, invalid_value)"),
    _terminal("openai401", errors.InvalidKey, 401, "invalid_api_key"),
]

FAULTS = [
    _fault("408", errors.ServerTimeout, 408, "HTTP 408 with an empty body", begun=True),
    _fault("500", errors.ServerError, 500, "Internal server error", begun=False),
    _fault("502", errors.ServerError, 502, "Bad gateway", begun=False),
    _fault("503", errors.ServerError, 503, "Service temporarily unavailable", begun=False),
    _fault("504", errors.ServerError, 504, "Gateway timeout", begun=True),
    _fault("599", errors.ServerError, 599, "Error 599", begun=False),
    _fault("html502", errors.ServerError, 502, "502 Bad gateway", begun=False),
    _fault("text500", errors.ServerError, 500, "Internal server error", begun=False),
    _fault("empty503", errors.ServerError, 503, "HTTP 503 with an empty body", begun=False),
    _fault("openai500", errors.ServerError, 500, "Internal server error (server_error)", begun=False),
    _fault("html200", errors.InvalidResponse, 200, "no chat completion", begun=True),
    _fault("empty200", errors.InvalidResponse, 200, "it is empty", begun=True),
    _fault("emptyobject", errors.InvalidResponse, 200, "no chat completion; it begins: {}", begun=True),
    _fault("notjson", errors.InvalidResponse, 200, "it begins: This is not JSON", begun=True),
    _fault("truncate", errors.InvalidResponse, None, "broke off", begun=True),
    _fault("huge bytes=1100000", errors.InvalidResponse, None, "MIRA_MAX_RESPONSE_BYTES", begun=True),
    _fault("reset", errors.Unreachable, None, "the connection broke", begun=True),
    _fault("close", errors.Unreachable, None, "the connection broke", begun=True),
]

ROWS = TERMINAL + FAULTS
