"""Retry-After as a header: in the form that the server is set to. Pure; the wall clock is passed in."""

from __future__ import annotations

import math
from email.utils import formatdate

from mira_queue.simulator.config import RetryAfterForm

ABSURD = "99999999999"  # some 3,000 years


def retry_after(seconds: float, form: RetryAfterForm, wall_s: float) -> tuple[str | None, float | None]:
    """The header (None: none), and how long it asks the client to wait (None: nothing that could be obeyed)."""
    match form:
        case "auto" if seconds == int(seconds):
            return str(int(seconds)), seconds
        case "auto" | "fraction":
            return f"{seconds:.3f}", round(seconds, 3)
        case "integer":
            return str(math.ceil(seconds)), float(math.ceil(seconds))
        case "date":
            until = math.ceil(wall_s + seconds)  # HTTP dates know whole seconds only
            return formatdate(until, usegmt=True), until - wall_s
        case "missing":
            return None, None
        case "absurd":
            return ABSURD, None
        case "negative":
            return f"-{math.ceil(seconds) or 1}", None


def forced_retry_after(text: str, wall_s: float) -> tuple[str | None, float | None]:
    """The same for a directive's `retry-after=`: any text as it is, or `missing`, or `date:SECONDS`."""
    if text == "missing":
        return None, None
    if text.startswith("date:"):
        return retry_after(float(text.removeprefix("date:")), "date", wall_s)
    try:
        seconds = float(text)
    except ValueError:
        return text, None
    return text, seconds if 0 <= seconds < float(ABSURD) else None
