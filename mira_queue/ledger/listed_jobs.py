"""Lists of recent single jobs, from indexes of bounded size: the length of the queue does not matter."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.states import FINAL, JobStatus
from mira_queue.ledger.jobs import status_of
from mira_queue.ledger.script_runner import ScriptRunner, decode

# Entries of an index, and jobs, that are read in one round trip. The first page is often enough.
MIN_PAGE, MAX_PAGE = 50, 500

# When a job was accepted (ms), and its id: the order of a list.
Place = tuple[int, str]


class ListedJobs(ScriptRunner):
    """Operations of people and programs that list jobs."""

    def listed(self, wanted: JobFilter, *, after: str = "", limit: int | None = None) -> list[JobStatus]:
        """Return the single jobs that match, the newest first; with `after`, those that follow this job.

        An index has the last MAX_LISTED open jobs, and those of each final state and each error code: older ones are
        not found. Raises InvalidRequest if there is no job `after`.
        """
        return list(islice(self.each_listed(wanted, after=after), limit))

    def listed_after(self, wanted: JobFilter, start: Place | None, limit: int) -> list[JobStatus]:
        """Do the same, after a place in which there may be no job any more."""
        return list(islice(self.each_listed(wanted, start=start), limit))

    def each_listed(
        self, wanted: JobFilter, *, after: str = "", start: Place | None = None, only_open: bool = False
    ) -> Iterator[JobStatus]:
        """Yield the same jobs, or only those that have not finished; after a job, or after a place.

        They are read in pages: a job whose state changes meanwhile may be left out.
        """
        start = self._place_of(after) if after else start
        kinds = [kind for kind in _indexes_of(wanted) if kind == names.OPEN or not only_open]
        merged = heapq.merge(
            *(self._entries_of(kind, wanted.project, start, wanted.since_ms) for kind in kinds), reverse=True
        )
        size = MIN_PAGE
        last = None
        while page := list(islice(merged, size)):
            # A job that ended between the reads of two indexes is in both.
            ids = [job_id for _, job_id in dict.fromkeys(page) if job_id != last]
            last = page[-1][1]
            found = self._statuses_of(ids, [names.listed_key(kind, wanted.project) for kind in kinds])
            yield from (job for job in found if wanted.matches(job) and not (only_open and job.state.is_final))
            size = min(MAX_PAGE, size * 2)

    def count_open(self, project: str) -> int:
        """Return the number of a project's open single jobs, at most MAX_LISTED."""
        return int(self._client.zcard(names.listed_key(names.OPEN, project)))

    def _place_of(self, job_id: str) -> Place:
        created: Any = self._client.hget(names.job_key(job_id), "created_ms")
        if created is None:
            raise InvalidRequest("after", f"no job {job_id[:80]!a} in this queue")
        return int(created), job_id

    def _entries_of(self, kind: str, project: str, start: Place | None, since_ms: int | None) -> Iterator[Place]:
        """Yield the entries of an index after `start`, the newest first."""
        end = "-inf" if since_ms is None else since_ms
        size = MIN_PAGE
        while True:
            first = "+inf" if start is None else start[0]
            # Jobs that were accepted in the same millisecond share a score, and are ordered by their ids.
            offset = 0
            while True:
                found: Any = self._client.zrevrangebyscore(
                    names.listed_key(kind, project), first, end, start=offset, num=size, withscores=True
                )
                page = [(int(score), decode(job_id)) for job_id, score in found]
                fresh = [place for place in page if start is None or place < start]
                if fresh or len(page) < size:
                    break
                offset += size
            yield from fresh
            if len(page) < size:
                return
            start = fresh[-1]
            size = min(MAX_PAGE, size * 2)

    def _statuses_of(self, job_ids: list[str], indexes: list[str]) -> list[JobStatus]:
        """Return the statuses of these jobs. Entries of jobs that have expired are removed from the indexes."""
        pipeline = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(names.job_key(job_id))
        found = dict(zip(job_ids, pipeline.execute(), strict=True))
        if expired := [job_id for job_id, raw in found.items() if not raw]:
            for index in indexes:
                pipeline.zrem(index, *expired)
            pipeline.execute()
        return [
            status_of(job_id, {decode(name): decode(value) for name, value in raw.items()})
            for job_id, raw in found.items()
            if raw
        ]


def _indexes_of(wanted: JobFilter) -> list[str]:
    """Return the smallest indexes that have all jobs that match."""
    if wanted.code:
        return [wanted.code]
    if wanted.state is None:
        return [names.OPEN, *sorted(FINAL)]
    return [wanted.state if wanted.state in FINAL else names.OPEN]
