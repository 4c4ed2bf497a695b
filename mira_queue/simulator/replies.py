"""Responses without a completion: status, headers and body, in every form that was observed. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from http.client import responses
from typing import Self

import orjson

from mira_queue.simulator.config import Backend
from mira_queue.simulator.faults import Shape
from mira_queue.simulator.wait_headers import NO_HEADERS

JSON = "application/json"
HTML = "text/html"
TEXT = "text/plain"

DETAILS: Mapping[int, str] = {
    400: "Bad request",
    401: "Invalid or expired API key",
    402: "Insufficient balance",
    403: "Your plan does not include this model",
    410: "This API version has been retired",
    413: "Request body too large",
    422: "Unprocessable request",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service temporarily unavailable",
    504: "Gateway timeout",
}
LIMIT_DETAILS: Mapping[str, str] = {
    "rate": "Rate limit exceeded",
    "tokens": "Token limit exceeded",
    "month": "Monthly token limit reached",
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
VERSION_HEADERS: Mapping[str, str] = {"Deprecation": "@1767225600", "Sunset": "Thu, 31 Dec 2026 23:59:59 GMT"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One complete HTTP response."""

    status: int
    body: bytes
    content_type: str | None = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def with_headers(self, headers: Mapping[str, str]) -> Self:
        return replace(self, headers={**self.headers, **headers})

    def with_content_type(self, content_type: str | None) -> Self:
        return replace(self, content_type=content_type)


class Rejected(Exception):
    """The request is not valid. `reply` is the response. Responses from a handler have an ID in Mira's backend."""

    def __init__(self, reply: Reply, *, is_from_handler: bool = False) -> None:
        super().__init__(reply.body)
        self.reply = reply
        self.is_from_handler = is_from_handler


def message_of(status: int) -> str:
    return DETAILS.get(status) or responses.get(status, f"Error {status}")


def limit_detail(limit: str, wait_s: float, backend: Backend) -> str:
    """Return the message of a 429. A call that its limit can never admit is too large."""
    if math.isinf(wait_s):
        return "Request too large: it exceeds the limit by itself"
    # Mira's backend has one message for all its limits.
    return f"Rate limit exceeded, retry after {wait_s:g} seconds" if backend == "mira" else LIMIT_DETAILS[limit]


def detail(status: int, text: str | None = None, headers: Mapping[str, str] = NO_HEADERS) -> Reply:
    """Return the documented form: {"detail": "text"}."""
    return Reply(status, orjson.dumps({"detail": text or message_of(status)}), headers=headers)


def detail_in_string(status: int, **fields: str) -> Reply:
    """Return the form observed for 422: the detail is JSON in a string."""
    return detail(status, orjson.dumps(fields).decode())


TIMED_OUT = Reply(408, b"", TEXT)  # when an answer takes too long and does not stream: it has no body
RETIRED = detail(410, headers=VERSION_HEADERS)
OBSERVED = {408: TIMED_OUT, 410: RETIRED, 422: detail_in_string(422, error="validation_error", message=DETAILS[422])}
MODERATED = detail_in_string(422, error="content_blocked", category="blocked_word")
SPECIAL = {
    "moderation": detail_in_string(422, error="content_blocked", category="violence"),
    "emptyobject": Reply(200, b"{}"),
    "notjson": Reply(200, b"This is not JSON"),
}


def shaped(status: int, shape: Shape) -> Reply:
    """Return this status with a body as frameworks, proxies and other servers send it."""
    text = message_of(status)
    match shape:
        case "detail":
            return OBSERVED.get(status) or detail(status)
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
