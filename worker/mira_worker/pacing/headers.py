"""Read the quotas in the headers of a response: how many calls remain, and until when. Pure.

Servers use many names: X-RateLimit-Remaining and -Reset, the same with -Requests and -Tokens (OpenAI), RateLimit-Reset,
anthropic-ratelimit-requests-reset, and the draft headers `RateLimit: "name";r=0;t=30` and
`RateLimit: limit=9, remaining=0, reset=30`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from mira_queue.contract.pace import Room
from mira_worker.pacing.moments import seconds_until

MAX_RESET = timedelta(days=1)
# A response has at most a dozen headers about quotas.
MAX_QUOTAS = 32
_NAME = re.compile(r"(.{0,20}?)rate-?limit(.{0,40}?)-(remaining|reset|limit)(.{0,40})")
_DRAFT = re.compile(r"(?:^|[;,\s])(r|t|q|remaining|reset|limit)=(\d{1,15})(?=$|[;,\s])")


@dataclass(frozen=True, slots=True)
class Quota:
    """One quota of an account. What its headers do not state is None."""

    remaining: int | None = None
    reset_s: float | None = None
    limit: int | None = None
    is_tokens: bool = False


def server_time(headers: Mapping[str, str], now: datetime) -> datetime:
    """Return the server's time if the response states it: its clock is the one that dates in its headers refer to."""
    stated = seconds_until(headers["date"], now) if "GMT" in headers.get("date", "") else None
    try:
        return now if stated is None else now + timedelta(seconds=stated)
    except OverflowError:
        return now


def quotas(headers: Mapping[str, str], now: datetime) -> list[Quota]:
    """Return all quotas in the headers. A reset that is unreadable is None."""
    found: dict[tuple[str, str, str], dict[str, str]] = {}
    for name, text in headers.items():
        lowered = name.lower()
        if lowered == "ratelimit":
            continue
        match = _NAME.fullmatch(lowered)
        if match and len(found) < MAX_QUOTAS:
            before, middle, what, after = match.groups()
            found.setdefault((before, middle, after.removesuffix("-after")), {})[what] = text
    named = [
        Quota(
            _number(each.get("remaining")),
            _seconds(each.get("reset"), now),
            _number(each.get("limit")),
            _is_of_tokens("".join(key)),
        )
        for key, each in found.items()
    ]
    return named + list(_draft(next((text for name, text in headers.items() if name.lower() == "ratelimit"), "")))


def room_left(headers: Mapping[str, str], now: datetime) -> Room | None:
    """Return how many calls remain and for how long that holds, or None if the headers do not say.

    The tighter of requests and tokens counts. If no tokens remain, no call remains.
    """
    found = [
        Room(quota.remaining, timedelta(seconds=quota.reset_s), quota.limit)
        for quota in quotas(headers, server_time(headers, now))
        if quota.remaining is not None
        and quota.reset_s is not None
        and 0 < quota.reset_s <= MAX_RESET.total_seconds()
        and (not quota.is_tokens or quota.remaining == 0)
    ]
    return min(found, key=lambda room: (room.remaining, room.reset), default=None)


def _draft(header: str) -> Iterator[Quota]:
    """Yield the quotas of a `RateLimit` header: one for each item of a list, or the one of the older form."""
    items = [dict(_DRAFT.findall(item)) for item in header[:2000].split(",")[:MAX_QUOTAS]]
    older = {name: value for item in items for name, value in item.items()}
    if "remaining" in older or "reset" in older:
        items = [{"r": older.get("remaining"), "t": older.get("reset"), "q": older.get("limit")}]
    for item in items:
        if item.get("r") or item.get("t"):
            yield Quota(_number(item.get("r")), float(item["t"]) if item.get("t") else None, _number(item.get("q")))


def _is_of_tokens(name: str) -> bool:
    return "token" in name or "bysize" in name


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) < 19 and text.strip().isdecimal() else None


def _seconds(text: str | None, now: datetime) -> float | None:
    return None if text is None else seconds_until(text, now)
