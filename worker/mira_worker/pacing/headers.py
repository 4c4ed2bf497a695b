"""Read X-RateLimit headers: how many calls remain, and until when. Pure.

Mira documents X-RateLimit-Remaining and was not seen to send it. OpenAI and those like it say -Remaining-Requests and
-Reset-Requests ("1s", "6m0s", "120ms"); others -Remaining and -Reset (seconds, or a Unix time).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from mira_queue.contract.durations import SECONDS_PER_UNIT

MAX_RESET = timedelta(days=1)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def room_left(headers: Mapping[str, str], now: datetime) -> tuple[int, timedelta] | None:
    """Return how many calls remain and for how long that holds, or None if the headers do not say.

    The tighter of requests and tokens counts. If no tokens remain, no call remains.
    """
    found = [
        (left, reset)
        for suffix in ("", "-requests")
        if (left := _number(headers.get(f"x-ratelimit-remaining{suffix}"))) is not None
        and (reset := _reset(headers.get(f"x-ratelimit-reset{suffix}"), now)) is not None
    ]
    if _number(headers.get("x-ratelimit-remaining-tokens")) == 0:
        reset = _reset(headers.get("x-ratelimit-reset-tokens"), now)
        if reset is not None:
            found.append((0, reset))
    return min(found, default=None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and len(text) < 19 and text.strip().isdecimal() else None


def _reset(text: str | None, now: datetime) -> timedelta | None:
    if text is None:
        return None
    text = text.strip()
    try:
        seconds = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            return None
        seconds = sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts)
    else:
        # Larger than any wait: it is a point in time.
        if seconds > 1e9:
            seconds -= now.timestamp()
    return timedelta(seconds=seconds) if 0 < seconds <= MAX_RESET.total_seconds() else None
