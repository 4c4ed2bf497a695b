"""Lists of recent single jobs, from indexes of bounded size: the length of the queue does not matter."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
# Jobs that one call of `search` reads, roughly: it takes tens of milliseconds.
MAX_READ = 500

# When a job was accepted (ms), and its id: the order of a list.
Place = tuple[int, str]


@dataclass(frozen=True, slots=True)
class FoundJobs:
    """Jobs that match, the newest first. Older ones follow `next`, if it is not None: perhaps none that match."""

    jobs: Sequence[JobStatus]
    next: Place | None


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
        for _, _, matching in self._pieces(wanted, start, only_open=only_open):
            yield from matching

    def search(
        self,
        wanted: JobFilter,
        after: Place | None,
        limit: int,
        *,
        only_open: bool = False,
        max_read: int = MAX_READ,
    ) -> FoundJobs:
        """Return at most `limit` jobs that match, from those that follow `after`. It reads about `max_read` jobs.

        A filter that few jobs match thus costs no more than another one: the next call continues.
        """
        found: list[JobStatus] = []
        read = 0
        for count, last, matching in self._pieces(wanted, after, only_open=only_open, size=limit + 1):
            read += count
            found += matching
            if len(found) > limit:
                shown = found[limit - 1]
                return FoundJobs(found[:limit], (shown.created_ms, shown.id))
            if read >= max_read:
                return FoundJobs(found, last)
        return FoundJobs(found, None)

    def count_listed(self, wanted: JobFilter, *, only_open: bool = False) -> int:
        """Return how many listed jobs match, or match and have not finished."""
        if not wanted.is_indexed:
            return sum(1 for _ in self.each_listed(wanted, only_open=only_open))
        indexes = [names.listed_key(kind, wanted.project) for kind in _indexes_of(wanted, only_open=only_open)]
        # The jobs of these entries may have expired. No other entry has to be read.
        oldest_ms = self._now_ms() - self._result_ttl_ms
        for index in indexes:
            if old := [decode(job_id) for job_id in self._client.zrangebyscore(index, "-inf", oldest_ms)]:
                self._statuses_of(old, [index])
        pipeline = self._client.pipeline(transaction=False)
        for index in indexes:
            pipeline.zcount(index, *_scores_of(wanted))
        return sum(pipeline.execute())

    def _pieces(
        self, wanted: JobFilter, start: Place | None, *, only_open: bool = False, size: int = MIN_PAGE
    ) -> Iterator[tuple[int, Place, list[JobStatus]]]:
        """Yield for each piece of the merged indexes: the number of its entries, the last one, and the matches.

        `size` is that of the first piece.
        """
        kinds = _indexes_of(wanted, only_open=only_open)
        merged = heapq.merge(*(self._entries_of(kind, wanted, start) for kind in kinds), reverse=True)
        last: Place | None = None
        while page := list(islice(merged, size)):
            # A job that ended between the reads of two indexes is in both.
            ids = [job_id for _, job_id in dict.fromkeys(page) if last is None or job_id != last[1]]
            last = page[-1]
            found = self._statuses_of(ids, [names.listed_key(kind, wanted.project) for kind in kinds])
            matching = [job for job in found if wanted.matches(job) and not (only_open and job.state.is_final)]
            yield len(page), last, matching
            size = min(MAX_PAGE, size * 2)

    def count_open(self, project: str) -> int:
        """Return the number of a project's open single jobs, at most MAX_LISTED."""
        return int(self._client.zcard(names.listed_key(names.OPEN, project)))

    def _place_of(self, job_id: str) -> Place:
        created: Any = self._client.hget(names.job_key(job_id), "created_ms")
        if created is None:
            raise InvalidRequest("after", f"no job {job_id[:80]!a} in this queue")
        return int(created), job_id

    def _entries_of(self, kind: str, wanted: JobFilter, start: Place | None) -> Iterator[Place]:
        """Yield the entries of an index after `start`, the newest first."""
        end, newest = _scores_of(wanted)
        size = MIN_PAGE
        while True:
            first = newest if start is None else start[0]
            # Jobs that were accepted in the same millisecond share a score, and are ordered by their ids.
            offset = 0
            while True:
                found: Any = self._client.zrevrangebyscore(
                    names.listed_key(kind, wanted.project), first, end, start=offset, num=size, withscores=True
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
            status_of(job_id, {name.decode(): value.decode() for name, value in raw.items()})
            for job_id, raw in found.items()
            if raw
        ]


def _scores_of(wanted: JobFilter) -> tuple[int | str, int | str]:
    """Return the scores between which the entries of jobs are that match."""
    first = "-inf" if wanted.since_ms is None else wanted.since_ms
    return first, "+inf" if wanted.until_ms is None else wanted.until_ms - 1


def _indexes_of(wanted: JobFilter, *, only_open: bool = False) -> list[str]:
    """Return the smallest indexes that have all jobs that match, or that match and have not finished."""
    if only_open:
        return [] if wanted.state in FINAL else [names.OPEN]
    if wanted.code:
        # No error has the name of an index of another kind.
        return [] if wanted.code in (names.OPEN, *FINAL) else [wanted.code]
    if wanted.state is None:
        return [names.OPEN, *sorted(FINAL)]
    return [wanted.state if wanted.state in FINAL else names.OPEN]
