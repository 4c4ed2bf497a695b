"""Filter of a list of single jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.states import JobState, JobStatus

MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted: those in a state, with an error code, with all these pairs of metadata, accepted `since`.

    None, "" and no metadata match every job. `since_ms` is Unix milliseconds. `project` is a project of the gateway.
    """

    state: JobState | None = None
    code: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    since_ms: int | None = None
    project: str = ""

    @classmethod
    def checked(
        cls, *, state: Any = None, code: Any = None, metadata: Any = None, since: Any = None, project: str = ""
    ) -> JobFilter:
        """Return the filter that a caller gave. Raise InvalidRequest for a wrong value."""
        try:
            wanted = None if state is None else JobState(state)
        except ValueError:
            raise InvalidRequest("state", f"expected {', '.join(JobState)}") from None
        if code is not None and not isinstance(code, str):
            raise InvalidRequest("code", f"expected the code of an error, got {type(code).__name__}")
        if code == "":
            raise InvalidRequest("code", "expected the code of an error, got an empty text")
        if code and wanted not in (None, JobState.FAILED):
            raise InvalidRequest("code", f"only failed jobs have a code, and the state is {wanted}")
        if since is not None and not (isinstance(since, datetime) and since.tzinfo is not None):
            raise InvalidRequest("since", "expected a datetime with a time zone")
        since_ms = None if since is None else round(since.timestamp() * 1000)
        return cls(JobState.FAILED if code else wanted, code or "", checked_metadata(metadata), since_ms, project)

    def matches(self, job: JobStatus) -> bool:
        return (
            (self.state is None or job.state is self.state)
            and (not self.project or job.project == self.project)
            and (not self.code or job.code == self.code)
            and (self.since_ms is None or job.created_ms >= self.since_ms)
            and all(job.metadata.get(key) == value for key, value in self.metadata.items())
        )
