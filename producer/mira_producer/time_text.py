"""Times as users write them: a duration from now, or an ISO time."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo

from mira_queue.contract.durations import duration

_SPAN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)\s*(s|m|min|h|d)", re.IGNORECASE)
MAX_SPAN = timedelta(days=366)


def parse_time(text: str, now: datetime, *, is_past: bool = False, zone: tzinfo | None = None) -> datetime:
    """Return the time of `24h`, `90m`, or `2d` from now (with `is_past`: before now), or of an ISO time.

    An ISO time that names no zone is one of `zone`; None: local. `now` has a zone, and so has the result. Raises
    ValueError with a message for the user.
    """
    span = _SPAN.fullmatch(text.strip())
    if span:
        wait = duration(span[1], span[2])
        if not timedelta(0) < wait <= MAX_SPAN:
            raise ValueError(f"expected more than 0 and at most {MAX_SPAN.days} days, got {text!r}")
        return now - wait if is_past else now + wait
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo or zone is None else found.replace(tzinfo=zone)).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected 24h, 90m, 2d, or a time such as 2030-01-31T18:00, got {text[:40]!r}") from None
