"""What a Retry-After header means. Pure: a header and a time in, a wait out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The API's longest documented window is a minute; without a header we wait that out.
WHEN_MISSING = timedelta(seconds=60)
# A daily quota may honestly say "until tomorrow"; nothing says more.
LONGEST = timedelta(days=1)
# "0" and dates that have just passed mean "now"; a crowd that takes it at its word would knock again at once.
SHORTEST = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """How long to wait; `remark` says what was odd about the header, for the log (None: nothing)."""

    wait: timedelta
    remark: str | None = None


def parse_retry_after(header: str | None, now: datetime) -> RetryAfter:
    """Seconds, fractions of seconds or an HTTP date (RFC 9110, 10.2.3); never raises.

    Missing or unreadable: a minute. More than a day: a day. Negative or in the past: a second. A fraction is kept,
    even a small one; only what is not positive is lifted.
    """
    if header is None or not header.strip():
        return RetryAfter(WHEN_MISSING, "missing")
    text = header.strip()
    seconds = _seconds(text, now)
    if seconds is None or math.isnan(seconds):
        return RetryAfter(WHEN_MISSING, f"unreadable: {text[:40]!r}")
    if seconds > LONGEST.total_seconds():
        return RetryAfter(LONGEST, f"absurd: {text[:40]!r}")
    if seconds < 0:
        return RetryAfter(SHORTEST, f"negative or in the past: {text[:40]!r}")
    if seconds == 0:
        return RetryAfter(SHORTEST)
    # Up to the next millisecond, the grain of the ledger's clock: rounded down, a call would leave before its time.
    return RetryAfter(timedelta(milliseconds=math.ceil(seconds * 1000)))


def _seconds(text: str, now: datetime) -> float | None:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - now).total_seconds()
    except (TypeError, ValueError, IndexError, OverflowError):
        # A time zone can move a date beyond those that Python knows.
        return None
