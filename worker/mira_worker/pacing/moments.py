"""Times and durations as servers write them. Pure: a text and a time in, seconds out."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from mira_queue.contract.durations import SECONDS_PER_UNIT

_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# A larger number is a point in time, because no wait is that long: 30 years.
UNIX_S = 1e9
# Unix times in milliseconds, microseconds, and nanoseconds, and how many of them make a second.
_UNIX_UNITS = ((1e11, 1e14, 1e3), (1e14, 1e17, 1e6), (1e17, 1e20, 1e9))


def seconds_until(text: str, now: datetime) -> float | None:
    """Return the seconds from `now`, or None if the text is unreadable. They may be negative or infinite.

    The text is a number of seconds, a Unix time, a duration such as 6m0s, or a date (HTTP or RFC 3339).
    """
    text = text.strip()
    for read in (_number, _repeated, _duration):
        if (seconds := read(text, now)) is not None:
            return None if math.isnan(seconds) else seconds
    moment = _date(text)
    try:
        return (moment - now).total_seconds() if moment else None
    except OverflowError:
        # A time zone can move a date beyond those that Python knows.
        return None


def _number(text: str, now: datetime) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    for low, high, per_second in _UNIX_UNITS:
        if low < seconds <= high:
            seconds /= per_second
            break
    return seconds - now.timestamp() if UNIX_S < seconds < math.inf else seconds


def _repeated(text: str, now: datetime) -> float | None:
    """Return the longest of several numbers: a header that two proxies have set."""
    if ", " not in text or len(text) > 100:
        return None
    found = [_number(each, now) for each in text.split(", ")]
    return max((each for each in found if each is not None), default=None) if None not in found else None


def _duration(text: str, _: datetime) -> float | None:
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return float(sum(float(number) * SECONDS_PER_UNIT[unit] for number, unit in parts))


def _date(text: str) -> datetime | None:
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            moment = parse(text)
        except (TypeError, ValueError, IndexError, OverflowError):
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
