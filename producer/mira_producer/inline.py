"""Parts of an inline queue: jobs run immediately in the caller, for an app's own tests. See MiraQueue.inline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import dropwhile, islice
from typing import Any

import orjson

from mira_queue.contract.errors import IdempotencyConflict, InvalidRequest, JobError, JobNotFound
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure, Outcome, celery_record
from mira_queue.contract.project_limits import NO_LIMITS, ProjectLimits
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.jobs import DELAYED, cancelled
from mira_queue.ledger.records import Accepted, NewJob
from mira_queue.ledger.waits import Wait

# From the body of a request to the text of an answer, the body of a chat completion, or an outcome. It may raise a
# JobError: then the job has failed with it.
Respond = Callable[[dict[str, Any]], "str | Mapping[str, Any] | Outcome"]


def echo(body: dict[str, Any]) -> str:
    """Return the same answer for the same request: it quotes the last message."""
    return f"Inline answer to: {body['messages'][-1].get('content')}"


class InlineMessenger:
    """Runs jobs in the place of sending their messages."""

    def __init__(self, ledger: InlineLedger) -> None:
        self._ledger = ledger

    def send(self, account: str, job_ids: Sequence[str], lane: Lane) -> None:
        for job_id in job_ids:
            self._ledger.run(job_id)


class InlineWaits:
    """Runs a delayed job in the place of waiting for it, as if the time had passed."""

    def __init__(self, ledger: InlineLedger) -> None:
        self._ledger = ledger

    def start(self, job_id: str) -> Wait:
        self._ledger.run(job_id)
        wait = Wait()
        wait.set_result(None)
        return wait

    def close(self) -> None:
        """Do nothing: there is no thread."""


@dataclass(slots=True)
class _Entry:
    job: NewJob
    status: JobStatus
    record: bytes | None = None


class InlineLedger:
    """In-memory ledger, with the methods that the client calls."""

    keeps_results = True

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self._entries: dict[str, _Entry] = {}
        self._keys: dict[tuple[str, str], str] = {}

    def accept(self, account: str, jobs: Sequence[NewJob], *, base: str = "") -> list[Accepted]:
        return [self._accept(account, job) for job in jobs]

    def _accept(self, account: str, job: NewJob) -> Accepted:
        held = self._keys.setdefault((account, job.key), job.id) if job.key else job.id
        if held != job.id:
            if self._entries[held].job.request.digest != job.request.digest:
                raise IdempotencyConflict(job.key, held)
            return Accepted(held, is_new=False)
        now_ms = _now_ms()
        delay_ms = round(job.delay.total_seconds() * 1000)
        status = JobStatus(
            job.id,
            JobState.WAITING if delay_ms else JobState.QUEUED,
            now_ms,
            due_ms=now_ms + delay_ms if delay_ms else None,
            reason=DELAYED if delay_ms else None,
            account=account,
            model=job.request.model,
            key=job.key,
            priority=job.priority,
            metadata=job.metadata,
        )
        self._entries[job.id] = _Entry(job, status)
        return Accepted(job.id, is_new=True, is_due=not delay_ms)

    def run(self, job_id: str) -> None:
        """Run a job that has not finished."""
        entry = self.entry(job_id)
        if entry.status.state.is_final:
            return
        try:
            answer = self._respond(orjson.loads(entry.job.request.body))
        except JobError as error:
            answer = Failure.from_error(error)
        outcome = answer if isinstance(answer, Completion | Failure) else _completion(answer, entry.job.request.model)
        failed = isinstance(outcome, Failure)
        state = JobState.FAILED if failed else JobState.SUCCEEDED
        self._end(entry, state, replace(outcome, attempts=1), outcome.code if isinstance(outcome, Failure) else None)

    def _end(self, entry: _Entry, state: JobState, outcome: Outcome, reason: str | None) -> None:
        entry.record = celery_record(entry.job.id, outcome, datetime.now(UTC))
        entry.status = replace(
            entry.status, state=state, attempts=outcome.attempts, due_ms=None, finished_ms=_now_ms(), reason=reason
        )

    def entry(self, job_id: str) -> _Entry:
        """Raise JobNotFound."""
        if job_id not in self._entries:
            raise JobNotFound(job_id)
        return self._entries[job_id]

    def records(self, job_ids: Sequence[str]) -> list[bytes | None]:
        return [self.entry(job_id).record for job_id in job_ids]

    def find_finished(self, job_ids: Sequence[str]) -> dict[str, JobState]:
        states = {job_id: self.entry(job_id).status.state for job_id in job_ids}
        return {job_id: state for job_id, state in states.items() if state.is_final}

    def status(self, job_id: str) -> JobStatus:
        return self.entry(job_id).status

    def cancel(self, job_id: str) -> bool:
        entry = self.entry(job_id)
        if not entry.status.state.is_final:
            self._end(entry, JobState.CANCELLED, cancelled(entry.status), None)
        return entry.status.state is JobState.CANCELLED

    def retry(self, job_id: str, limits: ProjectLimits = NO_LIMITS) -> bool:
        entry = self.entry(job_id)
        if entry.status.state is not JobState.FAILED:
            return False
        entry.record = None
        entry.status = replace(entry.status, state=JobState.QUEUED, attempts=0, finished_ms=None, reason=None)
        return True

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def probe_now(self, account: str) -> None:
        """Do nothing: there is no circuit breaker."""

    def listed(self, wanted: JobFilter, *, after: str = "", limit: int | None = None) -> list[JobStatus]:
        return list(islice(self.each_listed(wanted, after=after), limit))

    def each_listed(self, wanted: JobFilter, *, after: str = "", only_open: bool = False) -> Iterator[JobStatus]:
        if after and after not in self._entries:
            raise InvalidRequest("after", f"no job {after[:80]!a} in this queue")
        found: Iterator[JobStatus] = iter([entry.status for entry in reversed(self._entries.values())])
        if after:
            found = islice(dropwhile(lambda job: job.id != after, found), 1, None)
        return (
            job
            for job in found
            if wanted.matches(job) and not self._entries[job.id].job.group and not (only_open and job.state.is_final)
        )


def _completion(answer: str | Mapping[str, Any], model: str) -> Completion:
    if isinstance(answer, str):
        message = {"role": "assistant", "content": answer}
        answer = {
            "id": "chatcmpl-inline",
            "object": "chat.completion",
            "created": 0,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
    first = answer["choices"][0]
    text = first["message"].get("content") or ""
    return Completion(text, first.get("finish_reason"), answer.get("usage") or {}, answer)


def _now_ms() -> int:
    return round(time.time() * 1000)
