"""States of a job, and the scripts that move it. docs/states.md has the diagram and the crash matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from mira_queue.contract.job_options import Priority


class JobState(StrEnum):
    """State of a job.

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
    """Status of a job in the ledger. Times are Unix milliseconds of the queue's server; None if one does not apply.

    `attempts` counts calls that are charged to the job. `crashes` counts workers that crashed during its call.
    `unanswered_calls` counts calls without an answer that may have been billed. `reason` is why it waits or failed.
    `account` is the id of the account that it belongs to. `lost_usage` has the tokens of responses that were paid
    for and could not be used. `key` is its idempotency key. If its call has not started by `deadline_ms`, it fails.
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
    account: str = ""
    lost_usage: Mapping[str, int] = field(default_factory=dict)
    model: str = ""
    key: str = ""
    deadline_ms: int | None = None
    priority: Priority = Priority.NORMAL
    metadata: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    view: str = ""

    @property
    def code(self) -> str:
        """The error code of a failed job, or an empty string."""
        return (self.reason or "") if self.state is JobState.FAILED else ""
