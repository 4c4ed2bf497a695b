"""The states of a job and who moves it. docs/states.md draws the same, with what is true after a crash."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job is.

    queued      accepted; a message is on its way to a worker        moved by: claim, cancel
    running     a worker holds its lease                             moved by: finish, defer, release, cancel, rescue
    waiting     until a time: a Retry-After, a backoff               moved by: claim (when due), cancel, resend
    succeeded   its completion is stored                             final
    failed      its error is stored                                  moved by: retry (its owner's command)
    cancelled   by its owner                                         final
    """

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True, slots=True)
class JobStatus:
    """What the ledger knows of a job. Times are Unix milliseconds of the queue's server; None: does not apply.

    `attempts` counts calls charged to the job, `crashes` workers that died holding it, `unanswered_calls` calls whose
    answer was lost and that may have been billed. `reason` says why it waits or how it failed.
    """

    id: str
    state: JobState
    created_ms: int
    attempts: int = 0
    crashes: int = 0
    unanswered_calls: int = 0
    due_ms: int | None = None
    finished_ms: int | None = None
    reason: str | None = None
