"""What an answer means: every row of the API's error table. Pure: an answer in, a value out."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from mira_queue.contract.errors import (
    ContentBlocked,
    InvalidResponse,
    JobError,
    RateLimited,
    Redirected,
    ServerTimeout,
    ServiceFault,
    Unprocessable,
    error_for_status,
)
from mira_worker.event_stream import BrokenStream, assemble, is_event_stream
from mira_worker.redaction import Redact, redacted
from mira_worker.retry_after import RetryAfter, parse_retry_after
from mira_worker.transport import HttpAnswer, NoAnswer

# Long enough for every message a server writes on purpose; a page of HTML is none.
MAX_DETAIL_CHARS = 2_000
# Kept beside the detail for the caller's own reading, unless it is larger than a person would look at.
MAX_BODY_CHARS = 64 * 1024
# Levels of an answer's JSON. Real ones have a handful; what is nested deeper than orjson writes could not be stored,
# and the job that got it would die again and again.
MAX_NESTING = 100
# Objects and lists of an answer's JSON. Once parsed, each takes up to 100 bytes of memory, and `[]` is two on the wire.
# The largest real answers (log probabilities, 20 for each of 16,000 tokens) have some 700,000.
MAX_BRACKETS = 1_000_000
# Statuses after which the server may have done, and billed, the work.
_BEGUN = frozenset({408, 504})


@dataclass(frozen=True, slots=True)
class Answered:
    """A chat completion."""

    body: dict[str, Any]
    text: str
    finish_reason: str | None
    usage: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Terminal:
    """The job has failed for good."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Limited:
    """A limit of the account: nothing may leave before the wait has passed."""

    error: RateLimited
    retry_after: RetryAfter


@dataclass(frozen=True, slots=True)
class Faulty:
    """A fault of the service: later again, a bounded number of times."""

    fault: ServiceFault
    may_be_billed: bool


Meaning = Answered | Terminal | Limited | Faulty


def read_answer(answer: HttpAnswer | NoAnswer, now: datetime, redact: Redact = str) -> Meaning:
    """The one place where status and body become policy.

    `now` is for Retry-After in the form of a date. `redact` is applied to everything but a completion.
    """
    if isinstance(answer, NoAnswer):
        return Faulty(answer.fault, answer.may_be_billed)
    if 200 <= answer.status < 300:
        return _completion(answer, redact)
    parsed = redacted(_json(answer.body), redact)
    kind = error_for_status(answer.status)
    detail = readable(answer, parsed, redact)
    if kind is Unprocessable and _is_moderation(parsed):
        kind = ContentBlocked
    if kind is Redirected:
        target = answer.headers.get("location", "nowhere")
        detail = (
            f"the server redirects to {target[:200]}; redirects are not followed: set MIRA_API_BASE to the final URL"
        )
    error = kind(detail, answer.status, body=_kept(parsed))
    if isinstance(error, RateLimited):
        return Limited(error, parse_retry_after(answer.headers.get("retry-after"), now))
    if isinstance(error, ServiceFault):
        return Faulty(error, answer.status in _BEGUN or isinstance(error, ServerTimeout))
    return Terminal(error)


def _completion(answer: HttpAnswer, redact: Redact) -> Answered | Faulty:
    if is_event_stream(answer.headers.get("content-type", "")):
        if _brackets(answer.body) > MAX_BRACKETS:
            return _broken(answer, "the stream holds too many objects and lists", redact)
        try:
            body: Any = assemble(answer.body)
        except BrokenStream as error:
            return _broken(answer, str(error), redact)
        except RecursionError:
            return _broken(answer, "the stream holds JSON that is nested too deeply", redact)
        if _is_deeper(body, MAX_NESTING):
            return _broken(answer, "the stream holds JSON that is nested too deeply", redact)
    else:
        body = _json(answer.body)
    try:
        choice = body["choices"][0]
        message = choice["message"]
        content = message.get("content")
        finish_reason = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        return _broken(answer, "the answer holds no chat completion", redact)
    usage = body.get("usage")
    return Answered(
        body,
        content if isinstance(content, str) else "",
        finish_reason if isinstance(finish_reason, str) else None,
        usage if isinstance(usage, dict) else {},
    )


def _broken(answer: HttpAnswer, why: str, redact: Redact) -> Faulty:
    shown = redact(_plain_text(answer.body))[:200]
    return Faulty(
        InvalidResponse(f"{why}; it begins: {shown}" if shown else f"{why}; it is empty", answer.status), True
    )


def readable(answer: HttpAnswer, parsed: Any, redact: Redact = str) -> str:
    """Something a person can read, from JSON, JSON in a string, text, HTML or nothing."""
    try:
        words = _words(parsed) if parsed is not None else redact(_plain_text(answer.body))
    except RecursionError:  # JSON in a string in JSON in a string ...
        words = redact(_plain_text(answer.body))
    if not words:
        words = f"HTTP {answer.status} with an empty body"
    return words if len(words) <= MAX_DETAIL_CHARS else words[: MAX_DETAIL_CHARS - 1] + "…"


def _words(value: Any) -> str:
    """The message inside an error's JSON, whichever dialect it speaks."""
    if isinstance(value, str):
        inner = _json(value.encode()) if value.lstrip()[:1] in ("{", "[") else None
        return _words(inner) if inner is not None else value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, (_words(item) for item in value[:20])))
    if isinstance(value, dict):
        for name in ("detail", "message", "error"):
            if value.get(name):
                return _with_extras(_words(value[name]), value)
        if "msg" in value:
            loc = value.get("loc")
            place = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            return f"{place}: {value['msg']}" if place else str(value["msg"])
        return orjson.dumps(value).decode() if value else ""
    return "" if value is None else str(value)


def _with_extras(words: str, value: dict[str, Any]) -> str:
    extras = [str(value[name]) for name in ("category", "type", "code") if isinstance(value.get(name), str | int)]
    return f"{words} ({', '.join(extras)})" if extras else words


def _is_moderation(parsed: Any) -> bool:
    detail = parsed.get("detail") if isinstance(parsed, dict) else None
    inner = _json(detail.encode()) if isinstance(detail, str) else detail
    return isinstance(inner, dict) and inner.get("error") == "content_blocked"


def _json(body: bytes) -> Any:
    """None: no JSON, or none that can be kept."""
    brackets = _brackets(body)
    if brackets > MAX_BRACKETS:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # Few brackets cannot be nested deeply: most answers need no walk.
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


def _kept(parsed: Any) -> Any:
    return parsed if parsed is not None and len(orjson.dumps(parsed)) <= MAX_BODY_CHARS else None


def _plain_text(body: bytes) -> str:
    text = body[: 64 * 1024].decode("utf-8", "replace")
    if "<" in text and re.search(r"<(?:!doctype|html|head|body|title|h1)\b", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(text.split()).replace("\0", "")
