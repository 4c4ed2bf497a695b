"""Body of an error: a readable message, and the facts that decide its meaning. Pure.

Servers nest errors in each other, in lists, and as JSON in strings. All of these are read.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from mira_worker.json_body import parse_json
from mira_worker.redaction import Redact

# Longer than every message that a server writes on purpose. A page of HTML is longer.
MAX_DETAIL_CHARS = 2_000
# Objects of an error that are read. A real error has at most ten.
MAX_PARTS = 50

_INNER = ("error", "detail", "message", "metadata", "raw", "innererror", "inner_error", "details")
_CODES = ("code", "type", "status", "reason", "error", "error_type")
_NUMBERS = ("code", "status", "status_code")
# The two numbers of "Limit 30000, Requested 342389". Nothing else of a message decides anything.
_LIMIT = re.compile(r"\blimit:?\s+([\d,]+)\D+(?:used:?\s+[\d,]+\D+)?requested:?\s+([\d,]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """Facts in an error's JSON: codes in lower case, the outermost HTTP status, and the objects that it consists of.

    `has_reasons` is True if moderation gives its reasons. `never_fits` is True if the request is larger than the limit.
    """

    codes: frozenset[str] = frozenset()
    status: int | None = None
    has_reasons: bool = False
    never_fits: bool = False
    parts: tuple[Mapping[str, Any], ...] = ()


def facts_of(parsed: Any) -> ErrorFacts:
    """Return the facts in an error's JSON, which may hold anything."""
    parts = tuple(_parts(parsed))
    codes = (part.get(name) for part in parts for name in _CODES)
    statuses = (_status(part.get(name)) for part in parts for name in _NUMBERS)
    return ErrorFacts(
        codes=frozenset(code.strip().lower() for code in codes if isinstance(code, str) and len(code) <= 100),
        status=next(filter(None, statuses), None),
        has_reasons=any(isinstance(part.get("reasons"), list) and part["reasons"] for part in parts),
        never_fits=any(_exceeds_limit(part.get("message")) for part in parts),
        parts=parts,
    )


def _parts(parsed: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of an error, the outermost first."""
    level = [parsed]
    for _ in range(MAX_PARTS):
        if not level:
            return
        value = level.pop(0)
        if isinstance(value, str):
            value = _inner_json(value)
        if isinstance(value, list):
            level += value[:MAX_PARTS]
        elif isinstance(value, dict):
            yield value
            level += [value[name] for name in _INNER if isinstance(value.get(name), dict | list | str)]


def _inner_json(text: str) -> Any:
    return parse_json(text.encode("utf-8", "replace")) if text.lstrip()[:1] in ("{", "[") else None


def _status(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) == 3:
        value = int(value)
    return value if type(value) is int and 400 <= value < 600 else None


def _exceeds_limit(message: Any) -> bool:
    found = _LIMIT.search(message[:MAX_DETAIL_CHARS]) if isinstance(message, str) else None
    limit, requested = (int(number.replace(",", "") or 0) for number in found.groups()) if found else (0, 0)
    return requested > limit > 0


def readable(status: int, body: bytes, parsed: Any, redact: Redact = str) -> str:
    """Return a readable message from JSON, JSON in a string, text, HTML, or nothing."""
    try:
        text = message_of(parsed) if parsed is not None else redact(plain_text(body))
    except RecursionError:  # JSON in a string in JSON in a string ...
        text = redact(plain_text(body))
    if not text:
        text = f"HTTP {status} with an empty body"
    return text if len(text) <= MAX_DETAIL_CHARS else text[: MAX_DETAIL_CHARS - 1] + "…"


def message_of(value: Any) -> str:
    """Return the message in the JSON of an error. Servers use different fields."""
    if isinstance(value, str):
        inner = _inner_json(value)
        return message_of(inner) if inner is not None else value.strip()
    if isinstance(value, list):
        return "; ".join(filter(None, (message_of(item) for item in value[:20])))
    if isinstance(value, dict):
        for name in ("detail", "message", "error"):
            if value.get(name):
                return _with_extras(message_of(value[name]), value)
        if "msg" in value:
            loc = value.get("loc")
            place = ".".join(map(str, loc)) if isinstance(loc, list) else ""
            return f"{place}: {value['msg']}" if place else str(value["msg"])
        return orjson.dumps(value).decode() if value else ""
    return "" if value is None else str(value)


def _with_extras(text: str, value: dict[str, Any]) -> str:
    extras = [str(value[name]) for name in ("category", "type", "code") if isinstance(value.get(name), str | int)]
    reasons = value["metadata"].get("reasons") if isinstance(value.get("metadata"), dict) else None
    extras += [str(reason) for reason in reasons[:5]] if isinstance(reasons, list) else []
    return f"{text} ({', '.join(dict.fromkeys(extras))})" if extras else text


def plain_text(body: bytes) -> str:
    """Return the text of a body on one line, without the tags of HTML."""
    text = body[: 64 * 1024].decode("utf-8", "replace")
    if "<" in text and re.search(r"<(?:!doctype|html|head|body|title|h1)\b", text, re.IGNORECASE):
        text = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", text)
        text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return " ".join(text.split()).replace("\0", "")
