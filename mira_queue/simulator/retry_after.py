"""Retry-After as a header, in the configured form. Pure: the wall clock is passed in."""

from __future__ import annotations

import math
from email.utils import formatdate

from mira_queue.simulator.config import RetryAfterForm

ABSURD = "99999999999"  # about 3,000 years


def retry_after(seconds: float, form: RetryAfterForm, wall_s: float) -> tuple[str | None, float | None]:
    """Return the header (None: no header) and the wait that it asks for (None: none that a client could honor)."""
    match form:
        case "auto" if seconds == int(seconds):
            return str(int(seconds)), seconds
        case "auto" | "fraction":
            return f"{seconds:.3f}", round(seconds, 3)
        case "integer":
            return str(math.ceil(seconds)), float(math.ceil(seconds))
        case "date":
            until = math.ceil(wall_s + seconds)  # an HTTP date has whole seconds
            return formatdate(until, usegmt=True), until - wall_s
        case "missing":
            return None, None
        case "absurd":
            return ABSURD, None
        case "negative":
            return f"-{math.ceil(seconds) or 1}", None


def forced_retry_after(text: str, wall_s: float) -> tuple[str | None, float | None]:
    """Do the same for the `retry-after=` of a directive: any text unchanged, `missing`, or `date:SECONDS`."""
    if text == "missing":
        return None, None
    if text.startswith("date:"):
        return retry_after(float(text.removeprefix("date:")), "date", wall_s)
    try:
        seconds = float(text)
    except ValueError:
        return text, None
    return text, seconds if 0 <= seconds < float(ABSURD) else None
