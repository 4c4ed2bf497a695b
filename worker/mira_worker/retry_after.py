"""Wait that a Retry-After header asks for. Pure: a header and a time in, a wait out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

# The API's longest documented window is a minute.
WHEN_MISSING = timedelta(seconds=60)
# A daily quota may say "until tomorrow". No limit says more.
MAX_WAIT = timedelta(days=1)
# "0" and dates that have just passed mean "now". If all workers took that literally, they would all retry immediately.
MIN_WAIT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """A wait, and a remark for the log if the header was unusual."""

    wait: timedelta
    remark: str | None = None


def parse_retry_after(header: str | None, now: datetime) -> RetryAfter:
    """Parse seconds, fractions of seconds, or an HTTP date (RFC 9110, 10.2.3). Never raises.

    A missing or unreadable header means a minute, more than a day means a day, and a time that is not in the future
    means a second. Fractions are kept, even small ones.
    """
    if header is None or not header.strip():
        return RetryAfter(WHEN_MISSING, "missing")
    text = header.strip()
    seconds = _seconds(text, now)
    if seconds is None or math.isnan(seconds):
        return RetryAfter(WHEN_MISSING, f"unreadable: {text[:40]!r}")
    if seconds > MAX_WAIT.total_seconds():
        return RetryAfter(MAX_WAIT, f"absurd: {text[:40]!r}")
    if seconds < 0:
        return RetryAfter(MIN_WAIT, f"negative or in the past: {text[:40]!r}")
    if seconds == 0:
        return RetryAfter(MIN_WAIT)
    # Rounded up to a millisecond, the resolution of the ledger's clock: rounded down, a call would start too early.
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
