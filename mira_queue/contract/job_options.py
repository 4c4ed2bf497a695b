"""Options of a single job: when it may start, when it must have started, its priority, and its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.names import Lane

MAX_DELAY = timedelta(days=366)


class Priority(StrEnum):
    """Priority of a single job among the single jobs of its account.

    high    before the others, together with jobs that were rescued
    normal  in the order in which they were accepted
    low     after the others: OpenAI's service tier `flex`
    """

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def lane(self) -> Lane:
        return {Priority.HIGH: Lane.FIRST, Priority.NORMAL: Lane.NORMAL, Priority.LOW: Lane.LOW}[self]


@dataclass(frozen=True, slots=True)
class JobOptions:
    """Options of a job. The job starts after `delay`, and before `time_left` has passed; None means no deadline.

    They are durations, because the clocks of the producer and of the ledger may differ. `webhook` is a URL, or the id
    of an endpoint of the gateway, that receives the event of its end.
    """

    delay: timedelta = timedelta(0)
    time_left: timedelta | None = None
    priority: Priority = Priority.NORMAL
    metadata: Mapping[str, str] = field(default_factory=dict)
    webhook: str = ""

    @classmethod
    def checked(
        cls,
        now: datetime,
        *,
        delay: Any = None,
        not_before: Any = None,
        deadline: Any = None,
        priority: Any = None,
        metadata: Any = None,
        webhook: str = "",
    ) -> JobOptions:
        """Return the options that a caller gave at the time `now`. Raise InvalidRequest for a wrong one.

        `delay` is a timedelta or a number of seconds, `not_before` a time, and `deadline` any of the three. `webhook`
        is checked already.
        """
        if delay is not None and not_before is not None:
            raise InvalidRequest("not_before", "give one of the two: delay or not_before")
        if isinstance(delay, datetime):
            raise InvalidRequest("delay", "expected a timedelta or seconds; a time goes into not_before")
        if not_before is not None and not isinstance(not_before, datetime):
            raise InvalidRequest("not_before", "expected a datetime with a time zone; a duration goes into delay")
        if not_before is None:
            wait = timedelta(0) if delay is None else _span("delay", delay, now)
        else:
            # A time that has passed is no error: the job may start.
            wait = max(timedelta(0), _span("not_before", not_before, now))
        if not timedelta(0) <= wait <= MAX_DELAY:
            name = "delay" if not_before is None else "not_before"
            raise InvalidRequest(name, f"expected from now to {MAX_DELAY.days} days ahead")
        left = None if deadline is None else _span("deadline", deadline, now)
        if left is not None and not timedelta(0) < left <= MAX_DELAY:
            raise InvalidRequest("deadline", f"expected a time in the next {MAX_DELAY.days} days")
        if left is not None and left <= wait:
            raise InvalidRequest("deadline", "is not after the time before which the job must not start")
        try:
            chosen = Priority.NORMAL if priority is None else Priority(priority)
        except ValueError:
            raise InvalidRequest("priority", f"expected {', '.join(Priority)}") from None
        return cls(wait, left, chosen, checked_metadata(metadata), webhook)


NO_OPTIONS = JobOptions()


def _span(name: str, value: Any, now: datetime) -> timedelta:
    """Return the duration from now that a timedelta, a number of seconds, or a time stands for."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidRequest(name, "the time has no zone: use datetime.now(UTC) + ..., or .astimezone()")
        return value - now
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidRequest(name, f"expected a timedelta, seconds, or a datetime, got {type(value).__name__}")
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise InvalidRequest(name, f"expected at most {MAX_DELAY.days} days") from None
