"""Jobs in the ledger, as producers use them: accept, inspect, cancel, retry, delete."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from datetime import UTC, datetime, timedelta
from itertools import chain, islice
from typing import Any

import orjson
import redis

from mira_queue.contract import names
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.errors import AccountConflict, IdempotencyConflict, JobCancelled, JobNotFound
from mira_queue.contract.job_options import Priority
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure, celery_record
from mira_queue.contract.project_limits import NO_LIMITS, LimitReached, ProjectLimits
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.announcements import Announcements
from mira_queue.ledger.memory import Headroom
from mira_queue.ledger.records import Accepted, LostCalls, NewJob
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

# Jobs, and bytes of their requests, in one run of a script. The server does nothing else in that time.
MAX_JOBS = 100
MAX_BYTES = 1024 * 1024

# Jobs whose state one run of a script reads.
MAX_CHECKED = 500

# Jobs that are read in one round trip.
MAX_LISTED = 1000

# Reason why a job waits that has not run yet.
DELAYED = "its start is delayed"

# Fields of a job's hash that are fields of its status.
_NUMBERS = {name: name for name in ("created_ms", "attempts", "crashes", "due_ms", "finished_ms", "deadline_ms")}
_NUMBERS["unanswered"] = "unanswered_calls"


class Jobs(ScriptRunner):
    """Operations of producers."""

    def __init__(self, client: redis.Redis, *, result_ttl: timedelta, keeps_results: bool = True) -> None:
        super().__init__(client, result_ttl=result_ttl, keeps_results=keeps_results)
        self._headroom = Headroom(client)

    def accept(self, account: str, jobs: Sequence[NewJob], *, base: str = "") -> list[Accepted]:
        """Accept jobs of one account, one lane, and one project in one round trip. When this returns, they are durable.

        `base` is the account's base URL, if it is known. Raises AccountConflict if the queue knows another one:
        nothing was accepted. Raises IdempotencyConflict for the first key that belongs to a different request; the
        other jobs are accepted. Raises LimitReached for the first job that a limit of the project does not allow.
        Raises QueueUnavailable if the server's memory is almost full.
        """
        self._headroom.check(len(jobs), sum(len(job.request.body) for job in jobs))
        pieces = list(_pieces(jobs))
        answers = self._run_replicated("jobs/accept", [_accept_call(account, base, piece) for piece in pieces])
        accepted = []
        refused: IdempotencyConflict | LimitReached | None = None
        for piece, others in zip(pieces, answers, strict=True):
            if isinstance(others, bytes):
                raise AccountConflict(account, base, decode(others))
            known = {place: (decode(verdict), decode(job_id)) for place, verdict, job_id in others}
            for place, job in enumerate(piece):
                verdict, job_id = known.get(place, ("accepted", job.id))
                if verdict == "conflict":
                    refused = refused or IdempotencyConflict(job.key, job_id)
                if verdict in ("open", "cost"):
                    refused = refused or _limit_reached(verdict)
                accepted.append(Accepted(job_id, verdict == "accepted", is_due=not job.delay))
        if refused:
            raise refused
        return accepted

    def status(self, job_id: str) -> JobStatus:
        """Return a job's status. Raises JobNotFound."""
        return self.statuses([job_id])[0]

    def statuses(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """Return statuses in order, in one round trip. Raises JobNotFound for the first job that does not exist."""
        return [status_of(job_id, entry) for job_id, entry in zip(job_ids, self._entries(job_ids), strict=True)]

    def cancel(self, job_id: str, *, only_unstarted: bool = False) -> bool:
        """Cancel a job. Return True if it is cancelled now, or False if it had finished before. Raises JobNotFound.

        With `only_unstarted`, a job whose call is in flight continues: return False, too.
        """
        while True:
            (entry,) = self._entries([job_id])
            failure = cancelled(status_of(job_id, entry))
            record = celery_record(job_id, failure, datetime.now(UTC)) if self.keeps_results else b""
            project, owner = entry.get("project", ""), entry.get("account", "")
            keys = names.job_keys(owner, job_id, entry["key"], entry["group"])
            keys += [names.activity_key(owner), names.timeline_key(job_id)]
            keys += [*names.webhook_keys(project), *names.listed_keys(owner, project, JobState.CANCELLED)]
            known = [owner, entry.get("history", "")]
            args = [job_id, *known, record, self._result_ttl_ms, "1" if only_unstarted else ""]
            args += [failure.lost_usage.get(name, 0) for name in ("prompt_tokens", "completion_tokens")]
            done = self._run("jobs/cancel", keys, args)
            if done is None:
                raise JobNotFound(job_id)
            if done >= 0:
                return bool(done)

    def retry(self, job_id: str, limits: ProjectLimits = NO_LIMITS) -> bool:
        """Queue a failed job again. Return False if it is not failed. Raises JobNotFound, LimitReached."""
        (entry,) = self._entries([job_id])
        account, status = entry.get("account", ""), status_of(job_id, entry)
        keys = [*names.job_keys(account, job_id, entry["key"]), names.queued_key(account, status.priority.lane)]
        keys.append(names.timeline_key(job_id))
        keys += names.listed_keys(account, status.project, JobState.FAILED, status.code)
        args = [job_id, account, uuid.uuid4().hex, limits.max_open, limits.max_cost]
        done = self._run("jobs/retry", keys, args)
        if done is None:
            raise JobNotFound(job_id)
        if isinstance(done, bytes):
            raise _limit_reached(decode(done))
        return bool(done)

    def forget(self, job_id: str) -> bool:
        """Delete a single job that has finished. Return False if it is open. Raises JobNotFound."""
        (entry,) = self._entries([job_id])
        status = status_of(job_id, entry)
        keys = [*names.job_keys(status.account, job_id, status.key), names.timeline_key(job_id)]
        keys += names.listed_keys(status.account, status.project, status.state, status.code)
        return bool(self._run("jobs/forget", keys, [job_id]))

    def open_jobs(self, account: str) -> list[str]:
        """Return the ids of the account's open jobs."""
        pipeline = self._client.pipeline(transaction=False)
        for key in (names.leased_key(account), *names.queue_keys(account)):
            pipeline.zrange(key, 0, -1)
        return [decode(job_id) for found in pipeline.execute() for job_id in found]

    def adopt(self, old: str, new: str, job_ids: Sequence[str]) -> tuple[list[str], int]:
        """Move open jobs from one account to another.

        Return those that moved, whose messages the caller sends, and how many stay because the new account has a job
        with the same idempotency key. Jobs with a live worker stay, too.
        """
        moved: list[str] = []
        known = 0
        for start in range(0, len(job_ids), MAX_JOBS):
            piece = job_ids[start : start + MAX_JOBS]
            calls = []
            for job_id, key in zip(piece, self.keys_of(piece), strict=True):
                of_new = [names.idempotency_key(new, key), names.queued_key(new, Lane.FIRST), names.waiting_key(new)]
                of_new += [names.deadlines_key(new), names.deadlines_key(old), names.timeline_key(job_id)]
                calls.append(([*names.job_keys(old, job_id, key), *of_new], [job_id, old, new, key]))
            answers = self._run_many("jobs/adopt", calls)
            moved += [job_id for job_id, answer in zip(piece, answers, strict=True) if answer == 1]
            known += answers.count(-1)
        return moved, known

    def _entries(self, job_ids: Sequence[str]) -> list[dict[str, str]]:
        pipeline = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hgetall(names.job_key(job_id))
        found = pipeline.execute()
        for job_id, raw in zip(job_ids, found, strict=True):
            if not raw:
                raise JobNotFound(job_id)
        return [{decode(name): decode(value) for name, value in raw.items()} for raw in found]

    def set_deadline(self, job_ids: Sequence[str], time_left: timedelta | None) -> None:
        """Give open jobs another deadline, `time_left` from now; None means none."""
        if job_ids:
            self._run("jobs/set_deadline", [names.job_key(job_id) for job_id in job_ids], [_left_ms(time_left)])

    def delete(self, account: str, jobs: Iterable[tuple[str, str]]) -> None:
        """Delete finished jobs of the account, given as (id, idempotency key). Open jobs stay."""
        # The first four keys of a job are its own. The others hold entries of all jobs.
        keys = [names.job_keys(account, *job)[:4] for job in jobs]
        pieces = [keys[start : start + MAX_JOBS] for start in range(0, len(keys), MAX_JOBS)]
        self._run_many("jobs/delete", [(list(chain.from_iterable(piece)), []) for piece in pieces])

    def remove_unstarted(self, account: str, jobs: Sequence[tuple[str, str]]) -> list[LostCalls | None]:
        """Remove jobs of the account that have not started, given as (id, idempotency key).

        Return for each job what is on record only there, or None if the job runs or has finished and stays.
        """
        answers: list[Any] = []
        # In pieces: the server does nothing else in the time of a round trip.
        for start in range(0, len(jobs), MAX_JOBS):
            calls = [(names.job_keys(account, *job), [job[0], account]) for job in jobs[start : start + MAX_JOBS]]
            answers += self._run_many("jobs/remove_unstarted", calls)
        return [answer and LostCalls(answer[0], CallHistory.from_json(answer[1]).lost_usage) for answer in answers]

    def unstarted_of(self, account: str, group: str, *, only_uncalled: bool = False) -> list[tuple[str, str]]:
        """Return (id, idempotency key) of the group's jobs of an account that have not started, or were never called.

        It reads all jobs that are queued or wait: it is for the jobs of a group that no line of a file names any more.
        """
        found = {}
        for key in names.queue_keys(account):
            entries: Iterator[tuple[bytes, float]] = self._client.zscan_iter(key, count=MAX_LISTED)
            while piece := [decode(job_id) for job_id, _ in islice(entries, MAX_LISTED)]:
                pipeline = self._client.pipeline(transaction=False)
                for job_id in piece:
                    pipeline.hmget(names.job_key(job_id), "group", "key", "attempts", "crashes", "unanswered")
                for job_id, (of, name, *calls) in zip(piece, pipeline.execute(), strict=True):
                    if of == group.encode() and not (only_uncalled and any(int(each or 0) for each in calls)):
                        found[job_id] = decode(name)
        return list(found.items())

    def holders(self, account: str, keys: Sequence[str]) -> list[str]:
        """Return the ids of the account's jobs with these idempotency keys, in one round trip. Empty means no job."""
        if not keys:
            return []
        found: Any = self._client.mget([names.idempotency_key(account, key) for key in keys])
        return [decode(holder).partition(":")[2] if holder else "" for holder in found]

    def keys_of(self, job_ids: Sequence[str]) -> list[str]:
        """Return the idempotency keys of these jobs, in one round trip. An empty key means that there is none."""
        pipeline = self._client.pipeline(transaction=False)
        for job_id in job_ids:
            pipeline.hget(names.job_key(job_id), "key")
        return [decode(key or b"") for key in pipeline.execute()]

    def finished(self, group: str, timeout_s: float, limit: int = 250) -> list[str]:
        """Return at most `limit` jobs of the group that have finished since the last call. Wait up to `timeout_s`."""
        first = self._client.blpop([names.finished_key(group)], timeout=timeout_s)
        if first is None:
            return []
        rest = self._client.lpop(names.finished_key(group), limit - 1) if limit > 1 else None
        return [decode(first[1]), *(decode(item) for item in rest or [])]

    def find_finished(self, job_ids: Sequence[str]) -> dict[str, JobState | None]:
        """Return the state of each of these jobs that is not open, in one round trip; None if it does not exist."""
        pieces = [job_ids[start : start + MAX_CHECKED] for start in range(0, len(job_ids), MAX_CHECKED)]
        calls = [([names.job_key(job_id) for job_id in piece], ()) for piece in pieces]
        found: dict[str, JobState | None] = {}
        for piece, answer in zip(pieces, self._run_many("jobs/find_finished", calls), strict=True):
            for place, state in zip(answer[::2], answer[1::2], strict=True):
                found[piece[place - 1]] = JobState(decode(state)) if state else None
        return found

    def records(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Return the records of these jobs in Celery's Redis backend, in one round trip. None means no record."""
        if not job_ids:
            return []
        found: Any = self._client.mget([names.result_key(job_id) for job_id in job_ids])
        return list(found)

    def announcements(self) -> Announcements:
        """Return subscriptions to the ends of jobs."""
        return Announcements(self._client)

    def drop_group(self, group: str) -> None:
        """Delete what belongs to a group without open jobs. A hold stays: jobs of a killed process may be left."""
        self._client.delete(names.finished_key(group))


def cancelled(status: JobStatus) -> Failure:
    """Return the outcome of a cancelled job."""
    detail = "requested by its owner"
    if status.state is JobState.RUNNING:
        detail += "; a call was in flight and may be billed"
    counts = status.attempts, status.unanswered_calls
    return Failure.from_error(JobCancelled(detail, None, *counts, lost_usage=status.lost_usage))


def _limit_reached(limit: str) -> LimitReached:
    return LimitReached("open" if limit == "open" else "cost")


def _pieces(jobs: Sequence[NewJob]) -> Iterator[list[NewJob]]:
    piece: list[NewJob] = []
    size = 0
    for job in jobs:
        if len(piece) == MAX_JOBS or (piece and size + len(job.request.body) > MAX_BYTES):
            yield piece
            piece, size = [], 0
        piece.append(job)
        size += len(job.request.body)
    if piece:
        yield piece


def _accept_call(account: str, base: str, jobs: Sequence[NewJob]) -> tuple[list[str], list[Any]]:
    keys: list[str] = [names.queued_key(account, jobs[0].lane), names.ACCOUNTS, names.pace_key(account)]
    keys += (names.waiting_key(account), names.listed_key(names.OPEN), names.listed_key(names.OPEN, jobs[0].project))
    keys += (names.deadlines_key(account), names.usage_key(jobs[0].project))
    args: list[Any] = [account, base]
    for job in jobs:
        keys += (names.job_key(job.id), names.request_key(job.id), names.idempotency_key(account, job.key))
        args += (job.id, job.request.body, job.request.digest, job.key, job.group, job.request.model)
        args += (_left_ms(job.time_left), "1" if job.pauses else "", _options(job))
    return keys, args


def _options(job: NewJob) -> bytes:
    if job.lane is Lane.BULK and not job.traceparent:
        return b""
    found: dict[str, Any] = {}
    if job.traceparent:
        found["traceparent"] = job.traceparent
    if job.delay:
        found["delay_ms"] = in_ms(job.delay)
    if job.priority is not Priority.NORMAL:
        found["priority"] = job.priority
    if job.metadata:
        found["metadata"] = orjson.dumps(dict(job.metadata)).decode()
    if job.project:
        found["project"] = job.project
    if job.view:
        found["view"] = job.view
    if job.webhook:
        found["webhook"] = job.webhook
    if job.limits:
        found.update(asdict(job.limits))
    if job.price:
        found["price"] = astuple(job.price)
    return orjson.dumps(found) if found else b""


def _left_ms(time_left: timedelta | None) -> int | str:
    return "" if time_left is None else in_ms(time_left)


def status_of(job_id: str, entry: Mapping[str, str]) -> JobStatus:
    """Return the status in a job's hash."""
    numbers = {field: int(entry[name]) for name, field in _NUMBERS.items() if name in entry}
    state = JobState(entry["state"])
    delayed = DELAYED if state is JobState.WAITING else None
    return JobStatus(
        job_id,
        state,
        reason=entry.get("reason") or delayed,
        account=entry.get("account", ""),
        lost_usage=CallHistory.from_json(entry.get("history", "").encode()).lost_usage,
        model=entry.get("model", ""),
        key=entry.get("key", ""),
        priority=Priority(entry.get("priority", Priority.NORMAL)),
        metadata=orjson.loads(entry.get("metadata", "{}")),
        project=entry.get("project", ""),
        view=entry.get("view", ""),
        **numbers,
    )
