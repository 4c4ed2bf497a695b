"""Timeline of a single job: what happened to it, and when. Times are Unix milliseconds of the queue's server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self


class EventKind(StrEnum):
    """Kind of an event.

    accepted    the job is durable
    claimed     a worker has taken the job
    called      a call was sent, and ended; the job had waited for its permit before
    calling     a call is in flight
    lost        a call was in flight when the worker crashed, or lost the job
    waits       until a time, because of `reason`
    released    the worker has returned the job to the queue
    crashed     the worker has crashed, or was silent for too long
    moved       to another account, which `reason` names
    retried     on its owner's command
    left_out    `count` leases in the middle of a long timeline are not listed
    succeeded, failed, cancelled   its end; `reason` is the code of a failed job
    """

    ACCEPTED = "accepted"
    CLAIMED = "claimed"
    CALLED = "called"
    CALLING = "calling"
    LOST = "lost"
    WAITS = "waits"
    RELEASED = "released"
    CRASHED = "crashed"
    MOVED = "moved"
    RETRIED = "retried"
    LEFT_OUT = "left_out"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call that has ended. `status` is 0 without a response. `code` is that of an error, or empty.

    `waited_ms` is how long the job had waited for its permit, and `waited_for` the last reason (see `pace.Reason`).
    """

    started_ms: int
    status: int
    duration_ms: int
    code: str = ""
    waited_ms: int = 0
    waited_for: str = ""

    def to_text(self) -> str:
        """Return a short text: longer than 64 bytes, it would cost the server more memory for the whole job."""
        numbers = f"{self.started_ms} {self.status} {self.duration_ms} {self.waited_ms}"
        return f"{numbers} {self.waited_for or '-'} {self.code or '-'}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        started_ms, status, duration_ms, waited_ms, waited_for, code, *_ = text.split(" ")
        why, error = ("" if each == "-" else each for each in (waited_for, code))
        return cls(int(started_ms), int(status), int(duration_ms), error, int(waited_ms), why)


@dataclass(frozen=True, slots=True)
class TimelineEvent:
    """One event. `worker` is PID@HOST. `until_ms` is the end of a wait."""

    at_ms: int
    kind: EventKind
    worker: str = ""
    call: CallRecord | None = None
    until_ms: int | None = None
    reason: str = ""
    count: int = 0


def timeline_of(job: Mapping[str, str], leases: list[Mapping[str, Any]]) -> list[TimelineEvent]:
    """Return the events of a job, the oldest first, from its hash and from the entries of its earlier leases.

    The entries are those of lib/timeline.lua; an empty one stands for the leases that are left out.
    """
    found = [TimelineEvent(int(job["created_ms"]), EventKind.ACCEPTED)]
    for lease in leases:
        if not lease:
            found.append(TimelineEvent(found[-1].at_ms, EventKind.LEFT_OUT, count=int(job["leases_left_out"])))
            continue
        found += _of_lease(lease, ended_ms=lease["ended_ms"], is_over=True)
        found += _next(lease)
    finished_ms = job.get("finished_ms")
    found += _of_lease(job, ended_ms=int(finished_ms or 0), is_over=finished_ms is not None)
    if finished_ms is not None:
        failed = job["state"] == EventKind.FAILED
        found.append(
            TimelineEvent(int(finished_ms), EventKind(job["state"]), reason=job.get("reason", "") if failed else "")
        )
    return found


def _of_lease(facts: Mapping[str, Any], *, ended_ms: int, is_over: bool) -> list[TimelineEvent]:
    """Return the claim and the call of a lease. The facts have the same names in a job's hash and in an entry."""
    found = []
    if facts.get("claimed_ms"):
        found.append(TimelineEvent(int(facts["claimed_ms"]), EventKind.CLAIMED, worker=facts.get("worker", "")))
    if text := facts.get("call"):
        call = CallRecord.from_text(text)
        found.append(TimelineEvent(call.started_ms, EventKind.CALLED, call=call))
    elif started := facts.get("calling_ms" if "ended_ms" in facts else "calling"):
        # A job of an older version has 1 here.
        kind = EventKind.LOST if is_over else EventKind.CALLING
        found.append(TimelineEvent(int(started) if int(started) > 1 else ended_ms, kind))
    return found


def _next(lease: Mapping[str, Any]) -> list[TimelineEvent]:
    """Return what followed a lease that did not finish the job."""
    at_ms, reason = lease["ended_ms"], lease.get("reason", "")
    match lease["next"]:
        case "waiting":
            return [TimelineEvent(at_ms, EventKind.WAITS, until_ms=lease["at_ms"], reason=reason)]
        case "retried":
            ended_ms = lease.get("at_ms", at_ms)
            return [TimelineEvent(ended_ms, EventKind.FAILED, reason=reason), TimelineEvent(at_ms, EventKind.RETRIED)]
        case kind:
            return [TimelineEvent(at_ms, EventKind(kind), reason=reason)]
