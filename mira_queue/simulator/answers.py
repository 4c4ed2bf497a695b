"""What the simulator says when it does not answer: status, headers and body, in every form that was met. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson

from mira_queue.simulator.faults import Shape

JSON = "application/json"
HTML = "text/html"
TEXT = "text/plain"

DETAILS: Mapping[int, str] = {
    400: "Bad request",
    401: "Invalid or expired API key",
    402: "Insufficient balance",
    403: "Your plan does not include this model",
    404: "Not Found",
    410: "This API version has been retired",
    413: "Request body too large",
    422: "Unprocessable request",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service temporarily unavailable",
    504: "Gateway timeout",
}
REFUSALS: Mapping[str, str] = {
    "balance": DETAILS[402],
    "rate": "Rate limit exceeded",
    "quota": "Daily request limit reached",
    "concurrency": "Too many concurrent requests",
    "busy": "Server is busy, try again later",
}
OPENAI_CODES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request_error", "invalid_value"),
    401: ("invalid_request_error", "invalid_api_key"),
    402: ("insufficient_quota", "insufficient_quota"),
    403: ("invalid_request_error", "model_not_allowed"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
VERSION_HEADERS: Mapping[str, str] = {
    "Deprecation": "@1767225600",
    "Sunset": "Thu, 31 Dec 2026 23:59:59 GMT",
}


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer of HTTP. `refusal` names the limit that made it, for the counts."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: str | None = None


def detail(status: int, text: str | None = None, **headers: str) -> Reply:
    """The documented form: {"detail": "text"}."""
    return Reply(status, orjson.dumps({"detail": text or reason(status)}), headers=headers)


def detail_in_string(status: int, **fields: str) -> Reply:
    """Observed on 422: the detail is JSON, in a string."""
    return detail(status, orjson.dumps(fields).decode())


def moderation(category: str) -> Reply:
    return detail_in_string(422, error="content_blocked", category=category)


def timed_out() -> Reply:
    """Observed: the server's own limit on a non-streaming answer; without a body."""
    return Reply(408, b"", TEXT)


def retired() -> Reply:
    return Reply(410, orjson.dumps({"detail": DETAILS[410]}), headers=VERSION_HEADERS)


def shaped(status: int, shape: Shape) -> Reply:
    """That status with a body as frameworks, proxies and other servers send it."""
    text = reason(status)
    match shape:
        case "detail" if status == 408:
            return timed_out()
        case "detail" if status == 410:
            return retired()
        case "detail" if status == 422:
            return detail_in_string(422, error="validation_error", message=text)
        case "detail":
            return detail(status)
        case "html":
            page = f"<html><head><title>{status} {text}</title></head><body><h1>{status} {text}</h1></body></html>\r\n"
            return Reply(status, page.encode(), HTML)
        case "text":
            return Reply(status, text.encode(), TEXT)
        case "empty":
            return Reply(status, b"", TEXT)
        case "openai":
            kind, code = OPENAI_CODES.get(status, ("server_error" if status >= 500 else "invalid_request_error", None))
            return Reply(status, orjson.dumps({"error": {"message": text, "type": kind, "code": code}}))


def reason(status: int) -> str:
    """A sentence for that status."""
    known = DETAILS.get(status)
    if known:
        return known
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Error {status}"
