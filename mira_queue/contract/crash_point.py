"""Named points at which a test can crash a process; docs/states.md has the crash matrix.

Only MIRA_CRASH_AT arms a point. It is rejected if calls could cost money (settings.py).
"""

from __future__ import annotations

from enum import StrEnum


class CrashPoint(StrEnum):
    """Point at which a process can crash. The value is the name in MIRA_CRASH_AT."""

    BEFORE_ACCEPT = "before-accept"
    AFTER_ACCEPT = "after-accept"
    AFTER_MESSAGE = "after-message"
    AFTER_CLAIM = "after-claim"
    AFTER_ANSWER = "after-answer"
    AFTER_OPEN_BREAKER = "after-open-breaker"
    AFTER_RECORD_OUTCOME = "after-record-outcome"
    AFTER_STORE = "after-store"
    AFTER_FINISH = "after-finish"
    AFTER_DEFER = "after-defer"
    AFTER_RELEASE = "after-release"
    AFTER_RESCUE = "after-rescue"
    AFTER_POISON = "after-poison"
    BEFORE_LINES = "before-lines"
    AFTER_LINES = "after-lines"
    AFTER_COPY = "after-copy"
    AFTER_SUBMIT = "after-submit"
    AFTER_CHECK = "after-check"
    AFTER_FINALIZING = "after-finalizing"
    AFTER_REMOVE_UNSTARTED = "after-remove-unstarted"
    AFTER_CANCEL = "after-cancel"
    AFTER_DELETE = "after-delete"
    AFTER_TAKE_OUT = "after-take-out"
    AFTER_ORDER = "after-order"
    AFTER_RETRY_COMMAND = "after-retry-command"


def parse_crash_at(text: str) -> tuple[CrashPoint, int]:
    """Parse "after-claim" or "after-claim:3" (at the third pass). Raises ValueError with what was expected."""
    name, _, count = text.partition(":")
    if name not in {point.value for point in CrashPoint} or not (count or "1").isdecimal() or int(count or 1) < 1:
        raise ValueError(f"expected NAME or NAME:PASS, NAME one of {', '.join(CrashPoint)}")
    return CrashPoint(name), int(count or 1)
