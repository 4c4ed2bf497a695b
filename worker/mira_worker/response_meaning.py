"""Meaning of a response: every row of the API's error table. Pure: a response in, a value out."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mira_queue.contract import errors
from mira_queue.contract.errors import InvalidResponse, JobError, ServerTimeout, ServiceFault
from mira_queue.contract.outcome import Completion
from mira_worker.event_stream import BrokenStream, assemble, is_event_stream
from mira_worker.redaction import Redact, redacted
from mira_worker.retry_after import RetryAfter, parse_retry_after
from mira_worker.transport import HttpResponse, NoResponse

# Longer than every message that a server writes on purpose. A page of HTML is longer.
MAX_DETAIL_CHARS = 2_000
# The body of an error is stored next to its detail, unless it is larger than a person would read.
MAX_BODY_CHARS = 64 * 1024
# Levels of a response's JSON. Real ones have a handful. JSON that is nested deeper than orjson writes could not be
# stored.
MAX_NESTING = 100
# Objects and lists of a response's JSON. Once parsed, each takes up to 100 bytes of memory, but only two bytes (`[]`)
# of the response. The largest real responses (log probabilities, 20 for each of 16,000 tokens) have some 700,000.
MAX_BRACKETS = 1_000_000
# Statuses after which the server may have done, and billed, the work.
_MAY_BE_BILLED = frozenset({408, 504})


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed permanently."""

    error: JobError


@dataclass(frozen=True, slots=True)
class RateLimited:
    """A limit of the account: no call may start before the wait has passed."""

    error: errors.RateLimited
    retry_after: RetryAfter


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the service, or a bug in the worker: the job is retried, with a limited number of attempts."""

    error: JobError
    may_be_billed: bool


Meaning = Completion | Failed | RateLimited | Fault


def read_response(response: HttpResponse | NoResponse, now: datetime, redact: Redact = str) -> Meaning:
    """Return the meaning of a response's status and body. A completion has the counts of a first attempt.

    `now` is for a Retry-After in the form of a date. `redact` is applied to everything but a completion.
    """
    if isinstance(response, NoResponse):
        return Fault(response.error, response.may_be_billed)
    if 200 <= response.status < 300:
        return _completion(response, redact)
    parsed = redacted(_json(response.body), redact)
    kind = errors.error_for_status(response.status)
    detail = readable(response, parsed, redact)
    if kind is errors.Unprocessable and _is_moderation(parsed):
        kind = errors.ContentBlocked
    if kind is errors.Redirected:
        target = response.headers.get("location", "nowhere")
        detail = (
            f"the server redirects to {target[:200]}; redirects are not followed: set MIRA_API_BASE to the final URL"
        )
    error = kind(detail, response.status, body=_small(parsed))
    if isinstance(error, errors.RateLimited):
        return RateLimited(error, parse_retry_after(response.headers.get("retry-after"), now))
    if isinstance(error, ServiceFault):
        return Fault(error, response.status in _MAY_BE_BILLED or isinstance(error, ServerTimeout))
    return Failed(error)


def _completion(response: HttpResponse, redact: Redact) -> Completion | Fault:
    if is_event_stream(response.headers.get("content-type", "")):
        if _brackets(response.body) > MAX_BRACKETS:
            return _broken(response, "the stream contains too many objects and lists", redact)
        try:
            body: Any = assemble(response.body)
        except BrokenStream as error:
            return _broken(response, str(error), redact)
        except RecursionError:
            return _broken(response, "the stream contains JSON that is nested too deeply", redact)
        if _is_deeper(body, MAX_NESTING):
            return _broken(response, "the stream contains JSON that is nested too deeply", redact)
    else:
        body = _json(response.body)
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish_reason = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        return _broken(response, "the response contains no chat completion", redact)
    usage = body.get("usage")
    return Completion(
        text=content if isinstance(content, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else None,
        usage=usage if isinstance(usage, dict) else {},
        body=body,
        latency_ms=response.latency_ms,
    )


def _broken(response: HttpResponse, why: str, redact: Redact) -> Fault:
    shown = redact(_plain_text(response.body))[:200]
    return Fault(
        InvalidResponse(f"{why}; it begins: {shown}" if shown else f"{why}; it is empty", response.status), True
    )


def readable(response: HttpResponse, parsed: Any, redact: Redact = str) -> str:
    """Return a readable message from JSON, JSON in a string, text, HTML, or nothing."""
    try:
        text = _message(parsed) if parsed is not None else redact(_plain_text(response.body))
    except RecursionError:  # JSON in a string in JSON in a string ...
        text = redact(_plain_text(response.body))
    if not text:
        text = f"HTTP {response.status} with an empty body"
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 1] + "…"


def _message(value: Any) -> str:
    """Return the message in the JSON of an error. Servers use different fields."""
    if isinstance(value, str):
        inner = _json(value.encode()) if value.lstrip()[:1] in ("{", "[") else None
        return _message(inner) if inner is not None else value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, (_message(item) for item in value[:20])))
    if isinstance(value, dict):
        for name in ("detail", "message", "error"):
            if value.get(name):
                return _with_extras(_message(value[name]), value)
        if "msg" in value:
            loc = value.get("loc")
            place = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            return f"{place}: {value['msg']}" if place else str(value["msg"])
        return orjson.dumps(value).decode() if value else ""
    return "" if value is None else str(value)


def _with_extras(text: str, value: dict[str, Any]) -> str:
    extras = [str(value[name]) for name in ("category", "type", "code") if isinstance(value.get(name), str | int)]
    return f"{text} ({', '.join(extras)})" if extras else text


def _is_moderation(parsed: Any) -> bool:
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    inner = _json(detail.encode()) if isinstance(detail, str) else detail
    return isinstance(inner, dict) and inner.get("error") == "content_blocked"


def _json(body: bytes) -> Any:
    """Return None if the body is not JSON, or JSON that cannot be stored."""
    brackets = _brackets(body)
    if brackets > MAX_BRACKETS:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # Few brackets cannot be nested deeply: most responses need no check.
    if brackets > MAX_NESTING and _is_deeper(value, MAX_NESTING):
        return None
    return value


def _brackets(body: bytes) -> int:
    return body.count(b"{") + body.count(b"[")


def _is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(level)


def _small(parsed: Any) -> Any:
    return parsed if parsed is not None and len(orjson.dumps(parsed)) <= MAX_BODY_CHARS else None


def _plain_text(body: bytes) -> str:
    text = body[: 64 * 1024].decode("utf-8", "replace")
    if "<" in text and re.search(r"<(?:!doctype|html|head|body|title|h1)\b", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(text.split()).replace("\0", "")
