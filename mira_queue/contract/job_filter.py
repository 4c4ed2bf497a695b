"""Filter of a list of single jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.states import FINAL, JobState, JobStatus

MAX_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs are wanted: those in a state, with an error code, for a model, with all these pairs of metadata.

    They were accepted at `since_ms` or later, and before `until_ms` (Unix milliseconds). `project` is a project of the
    gateway. None, "" and no metadata match every job.
    """

    state: JobState | None = None
    code: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    since_ms: int | None = None
    project: str = ""
    model: str = ""
    until_ms: int | None = None

    @classmethod
    def checked(
        cls,
        *,
        state: Any = None,
        code: Any = None,
        model: Any = None,
        metadata: Any = None,
        since: Any = None,
        until: Any = None,
        project: str = "",
    ) -> JobFilter:
        """Return the filter that a caller gave. Raise InvalidRequest for a wrong value."""
        try:
            wanted = None if state is None else JobState(state)
        except ValueError:
            raise InvalidRequest("state", f"expected {', '.join(JobState)}") from None
        error_code, of_model = _name("code", code, "the code of an error"), _name("model", model, "the name of a model")
        if error_code and wanted not in (None, JobState.FAILED):
            raise InvalidRequest("code", f"only failed jobs have a code, and the state is {wanted}")
        state_of_code = JobState.FAILED if error_code else wanted
        since_ms, until_ms = _unix_ms("since", since), _unix_ms("until", until)
        return cls(state_of_code, error_code, checked_metadata(metadata), since_ms, project, of_model, until_ms)

    @property
    def is_indexed(self) -> bool:
        """Return True if an index has the jobs that match, and no others: a count reads none of them."""
        return not self.model and not self.metadata and self.state in (None, *FINAL)

    def matches(self, job: JobStatus) -> bool:
        return (
            (self.state is None or job.state is self.state)
            and (not self.project or job.project == self.project)
            and (not self.code or job.code == self.code)
            and (not self.model or job.model == self.model)
            and (self.since_ms is None or job.created_ms >= self.since_ms)
            and (self.until_ms is None or job.created_ms < self.until_ms)
            and all(job.metadata.get(key) == value for key, value in self.metadata.items())
        )


def _name(field_name: str, value: Any, what: str) -> str:
    """Return a name that jobs must have; empty for None."""
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(field_name, f"expected {what}, got {type(value).__name__}")
    if value == "":
        # A caller whose variable is empty would match all jobs.
        raise InvalidRequest(field_name, f"expected {what}, got an empty text")
    return value or ""


def _unix_ms(field_name: str, value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidRequest(field_name, "expected a datetime with a time zone")
    return round(value.timestamp() * 1000)
