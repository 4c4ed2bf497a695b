"""Headers that say when to retry, and how much of a rate remains, in every form that servers use. Pure.

The wall clock is passed in, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

RetryAfterForm = Literal[
    "auto", "integer", "fraction", "date", "unix", "ms", "x-ms", "missing", "absurd", "negative"
]  # fmt: skip
RateHeaders = Literal["none", "openai", "seconds", "unix", "unix-ms", "draft"]
Unit = Literal["requests", "tokens"]

NO_HEADERS: Mapping[str, str] = {}
ABSURD = "99999999999"  # a Retry-After of about 3,000 years
RETRY_AFTER = "Retry-After"


@dataclass(frozen=True, slots=True)
class Standing:
    """Standing of an account at one of its rates: the limit, what remains of it, and when nothing counts as used."""

    unit: Unit
    limit: float
    window_s: float
    remaining: float
    reset_s: float


def retry_after(seconds: float, form: RetryAfterForm, wall_s: float) -> tuple[Mapping[str, str], float | None]:
    """Return the header, and the wait that it asks for (None: none that a client could honor)."""
    if math.isinf(seconds):
        return NO_HEADERS, None
    whole_s, whole_ms = math.ceil(seconds), _whole(seconds * 1000)
    match form:
        case "auto" if seconds == int(seconds):
            return {RETRY_AFTER: str(int(seconds))}, seconds
        case "auto" | "fraction":
            return {RETRY_AFTER: f"{whole_ms / 1000:.3f}"}, whole_ms / 1000
        case "integer":
            return {RETRY_AFTER: str(whole_s)}, float(whole_s)
        case "date":
            until = math.ceil(wall_s + seconds)  # an HTTP date has whole seconds
            return {RETRY_AFTER: formatdate(until, usegmt=True)}, until - wall_s
        case "unix":
            until = math.ceil(wall_s + seconds)
            return {RETRY_AFTER: str(until)}, until - wall_s
        case "ms":
            return {"retry-after-ms": str(whole_ms)}, whole_ms / 1000
        case "x-ms":
            return {"x-ms-retry-after-ms": str(whole_ms)}, whole_ms / 1000
        case "missing":
            return NO_HEADERS, None
        case "absurd":
            return {RETRY_AFTER: ABSURD}, None
        case "negative":
            return {RETRY_AFTER: f"-{whole_s or 1}"}, None


def forced_retry_after(text: str, wall_s: float) -> tuple[Mapping[str, str], float | None]:
    """Do the same for the `retry-after=` of a directive: any text unchanged, `missing`, or `date:SECONDS`."""
    if text == "missing":
        return NO_HEADERS, None
    if text.startswith("date:"):
        return retry_after(float(text.removeprefix("date:")), "date", wall_s)
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.inf
    return {RETRY_AFTER: text}, seconds if 0 <= seconds < float(ABSURD) else None


def rate_headers(standings: Sequence[Standing], form: RateHeaders, wall_s: float) -> Mapping[str, str]:
    """Return the headers about an account's rates. Only OpenAI's have one set for calls and one for tokens."""
    if not standings or form == "none":
        return NO_HEADERS
    if form == "openai":
        return {name: text for standing in standings for name, text in _openai(standing).items()}
    tightest = min(standings, key=lambda standing: standing.remaining / standing.limit)
    remaining, reset_s = math.floor(tightest.remaining), tightest.reset_s
    if form == "draft":
        return {
            "RateLimit-Policy": f'"default";q={tightest.limit:g};w={math.ceil(tightest.window_s)}',
            "RateLimit": f'"default";r={remaining};t={math.ceil(reset_s)}',
        }
    reset = {
        "seconds": math.ceil(reset_s),
        "unix": math.ceil(wall_s + reset_s),
        "unix-ms": _whole((wall_s + reset_s) * 1000),
    }[form]
    return {
        "X-RateLimit-Limit": f"{tightest.limit:g}",
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(reset),
    }


def duration(seconds: float) -> str:
    """Return a time as OpenAI writes it: 6m0s, 1.5s, 20ms."""
    ms = _whole(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{ms / 1000:g}s"
    return f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text


def _openai(standing: Standing) -> Mapping[str, str]:
    return {
        f"x-ratelimit-limit-{standing.unit}": f"{standing.limit:.0f}",
        f"x-ratelimit-remaining-{standing.unit}": str(math.floor(standing.remaining)),
        f"x-ratelimit-reset-{standing.unit}": duration(standing.reset_s),
    }


def _whole(number: float) -> int:
    """Round up, but not because of an error of floating point."""
    return math.ceil(round(number, 3))
