"""A point in time, as people write it: so long from now, or a date and time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from mira_queue.contract.durations import duration

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|m|min|h|d)", re.IGNORECASE)
LONGEST = timedelta(days=366)


def parse_deadline(text: str, now: datetime) -> datetime:
    """`24h`, `90m`, `2d` from now, or an ISO time, local where it names no zone. Raises ValueError, saying what to do.

    `now` knows its zone, and so does what is returned.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        wait = duration(span[1], span[2])
        if not timedelta(0) < wait <= LONGEST:
            raise ValueError(f"expected more than nothing and {LONGEST.days} days at most, got {text!r}")
        return now + wait
    try:
        return datetime.fromisoformat(text.strip()).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected 24h, 90m, 2d, or a time such as 2030-01-31T18:00, got {text[:40]!r}") from None
