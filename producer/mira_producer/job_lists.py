"""Lists of recent single jobs, and actions on all jobs that match a filter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from mira_queue.contract.errors import InvalidRequest, JobNotFound
from mira_queue.contract.job_filter import MAX_LIMIT, JobFilter
from mira_queue.contract.project_limits import NO_LIMITS, ProjectLimits
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.ledger import Ledger


class JobLists(ABC):
    """The part of MiraQueue that concerns many jobs.

    The queue lists the last 10,000 open jobs, and the last 10,000 of each final state and of each error code. Lines of
    files, and jobs of a group, are not listed. A job is listed by the time at which it was accepted.
    """

    ledger: Ledger

    def jobs(
        self,
        *,
        state: str | None = None,
        code: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[JobStatus]:
        """Return at most `limit` recent single jobs that match, the newest first.

        `state` is a state ("failed"), `code` the code of an error ("balance_used_up"), and `model` that of the request.
        A job matches `metadata` if it has all these pairs, `since` if it was accepted at that time or later, and
        `until` if it was accepted before. `after` is the id of the last job of the previous page. Raises InvalidRequest
        for a wrong argument.
        """
        wanted = JobFilter.checked(state=state, code=code, model=model, metadata=metadata, since=since, until=until)
        if not 1 <= limit <= MAX_LIMIT:
            raise InvalidRequest("limit", f"expected 1 to {MAX_LIMIT}")
        return self.ledger.listed(wanted, after=after or "", limit=limit)

    def cancel_all(
        self,
        *,
        state: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Cancel all listed jobs that match and have not finished. Return how many this call has cancelled.

        They are jobs of all accounts and all projects of the queue: give `metadata` to cancel those of one app.
        """
        return self.cancel_matching(
            JobFilter.checked(state=state, model=model, metadata=metadata, since=since, until=until)
        )

    def retry_all(
        self,
        *,
        code: str | None = None,
        model: str | None = None,
        metadata: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> int:
        """Retry all listed jobs that match and have failed. Return how many are queued again."""
        return self.retry_matching(
            JobFilter.checked(code=code, model=model, metadata=metadata, since=since, until=until)
        )

    def cancellable(self, wanted: JobFilter) -> list[str]:
        """Return the ids of the listed jobs that match and have not finished."""
        return [job.id for job in self.ledger.each_listed(wanted, only_open=True)]

    def retryable(self, wanted: JobFilter) -> list[str]:
        """Return the ids of the listed jobs that match and have failed."""
        if wanted.state not in (None, JobState.FAILED):
            return []
        return [job.id for job in self.ledger.each_listed(replace(wanted, state=JobState.FAILED))]

    def count_cancellable(self, wanted: JobFilter) -> int:
        """Return how many jobs `cancellable` returns, usually without reading them."""
        return self.ledger.count_listed(wanted, only_open=True)

    def count_retryable(self, wanted: JobFilter) -> int:
        """Return how many jobs `retryable` returns, usually without reading them."""
        if wanted.state not in (None, JobState.FAILED):
            return 0
        return self.ledger.count_listed(replace(wanted, state=JobState.FAILED))

    def cancel_matching(self, wanted: JobFilter) -> int:
        """Do what `cancel_all` does, with a filter."""
        # All ids first: the lists change with every job.
        return self.cancel_jobs(self.cancellable(wanted))

    def retry_matching(self, wanted: JobFilter, limits: ProjectLimits = NO_LIMITS) -> int:
        """Do what `retry_all` does, with a filter. Raises LimitReached as soon as a limit of the gateway is reached."""
        return self.retry_jobs(self.retryable(wanted), limits)

    def cancel_jobs(self, job_ids: Sequence[str]) -> int:
        """Cancel these jobs. Return how many this call has cancelled. Jobs that have expired are skipped."""
        return _count(self.ledger.cancel, job_ids)

    def retry_jobs(self, job_ids: Sequence[str], limits: ProjectLimits = NO_LIMITS) -> int:
        """Retry these jobs. Return how many are queued again. Jobs that have expired are skipped."""
        return _count(lambda job_id: self.retry_job(job_id, limits), job_ids)

    @abstractmethod
    def retry_job(self, job_id: str, limits: ProjectLimits = NO_LIMITS) -> bool:
        """Run a failed job again. Return False if the job has not failed."""


def _count(act: Callable[[str], bool], job_ids: Sequence[str]) -> int:
    """Return for how many jobs `act` has returned True."""
    done = 0
    for job_id in job_ids:
        with suppress(JobNotFound):
            done += act(job_id)
    return done
