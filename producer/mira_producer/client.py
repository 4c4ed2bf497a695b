"""The Python client: what a Flask or Django view calls."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from mira_producer.batches.client import Batches
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import InvalidRequest, JobNotFound, QueueUnavailable, ResultTimeout
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Outcome, outcome_of, outcome_of_record
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import limits_named
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.jobs import cancelled
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.messages import MessageNotSent, Messenger
from mira_queue.ledger.records import NewJob, new_job_id
from mira_queue.ledger.server import QueueServer
from mira_queue.runtime.celery_config import build_celery, stores_results_itself
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.settings_loader import load_settings

# The end of a job is announced; an announcement can be lost with a connection, so somebody looks this often anyway.
LOOK_EVERY_S = 2.0
ACCEPT_AT_ONCE = 500


class Job:
    """A handle on one job. Making one from an id costs nothing: `queue.job(id)`."""

    def __init__(self, queue: MiraQueue, job_id: str) -> None:
        self._queue = queue
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """Where it is, and why. Raises JobNotFound."""
        return self._queue.ledger.status(self.id)

    def result(self, timeout: float | None = None) -> Completion:
        """The completion; waits for it, at most `timeout` seconds (None: for ever; 0: only look).

        Raises a JobError when the job ended without one, ResultTimeout when it has not ended, JobNotFound.
        """
        outcome = self.outcome(timeout)
        if isinstance(outcome, Completion):
            return outcome
        raise outcome.to_error()

    def outcome(self, timeout: float | None = None) -> Outcome:
        """As `result`, but a job's error is a value too."""
        return self._queue.wait_for_outcome(self.id, timeout)

    def cancel(self) -> bool:
        """True: it is cancelled, for good, though a call in flight may be billed. False: it had ended."""
        return self._queue.ledger.cancel(self.id)

    def retry(self) -> bool:
        """Run a failed job again. False: it has not failed."""
        done, _ = self._queue.ledger.retry(self.id)
        if done:
            self._queue.send([self.id])
        return done


class MiraQueue:
    """The queue as producers see it. Make one for a process and share it between threads.

    Settings come from `MIRA_*` variables and `.env`, or are given: `MiraQueue(redis_url="redis://localhost/0")`.
    Without MIRA_REDIS_URL it holds the embedded server until `close` (also at the end of a `with`, or of the process).
    Raises SettingsError for wrong settings, QueueUnavailable where the server cannot be had.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = settings or load_settings(**overrides)
        self._server = QueueServer(self.settings)
        try:
            self.redis_url = self._server.open()
        except EmbeddedServerError as error:
            raise QueueUnavailable(str(error)) from error
        self._server.keep_running()
        self.crash_points = CrashPoints(self.settings.crash_at)
        self._limits = limits_named(self.settings.check_limits)
        self._celery = build_celery(self.settings, self.redis_url)
        self._messenger = Messenger(self._celery)
        self.ledger = Ledger(
            connect(self.redis_url),
            result_ttl=self.settings.result_ttl,
            keeps_results=stores_results_itself(self.settings),
        )

    @property
    def batches(self) -> Batches:
        """Files of requests that are brought to their end in the background."""
        return Batches(self.ledger, self.settings, self.redis_url, self.crash_points)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let connections and an embedded server go. Jobs stay."""
        self._celery.close()
        self._server.close()

    def enqueue(
        self, messages: Sequence[Mapping[str, Any]], *, model: str | None = None, key: str | None = None, **fields: Any
    ) -> Job:
        """Accept one chat job; when this returns, it is kept, and runs as soon as a worker has room.

        `key` is an idempotency key: the same key and request give the same job. Further `fields` (temperature,
        max_tokens, top_p, ...) pass through to the API.
        Raises InvalidRequest (nothing was sent), IdempotencyConflict, QueueUnavailable (not accepted, or not known to
        be: with a key, calling again is safe).
        """
        body = {"messages": messages, **fields} if model is None else {"messages": messages, "model": model, **fields}
        return self.accept([NewJob(self.check(body), new_job_id(), _key("key", key))])[0]

    def enqueue_many(
        self, requests: Iterable[Mapping[str, Any]], *, keys: Iterable[str] | None = None, group: str = ""
    ) -> list[Job]:
        """Accept many request bodies; all are checked before any is accepted.

        `keys`, when given, holds one idempotency key for each. Raises as `enqueue`; an InvalidRequest's field begins
        with the request's place, `[3].messages`.
        """
        checked = [self._check(number, body) for number, body in enumerate(requests)]
        names = [] if keys is None else [_key(f"keys[{number}]", key) for number, key in enumerate(keys)]
        if keys is None:
            names = [""] * len(checked)
        if len(names) != len(checked):
            raise InvalidRequest("keys", f"expected one for each of the {len(checked)} requests, got {len(names)}")
        return self.accept(
            [NewJob(request, new_job_id(), key, group) for request, key in zip(checked, names, strict=True)]
        )

    def accept(self, jobs: Sequence[NewJob]) -> list[Job]:
        """Accept requests that have been checked, all for one lane, and send their messages."""
        handles = []
        # In pieces: a job that is accepted long before its message is sent would look like one whose message was lost.
        for start in range(0, len(jobs), ACCEPT_AT_ONCE):
            self.crash_points.reach(CrashPoint.BEFORE_ACCEPT)
            accepted = self.ledger.accept(jobs[start : start + ACCEPT_AT_ONCE])
            self.crash_points.reach(CrashPoint.AFTER_ACCEPT)
            self.send([job.id for job in accepted if job.is_new], jobs[start].lane)
            handles += [Job(self, job.id) for job in accepted]
        return handles

    def send(self, job_ids: Sequence[str], lane: Lane = Lane.NORMAL) -> None:
        """A message for each job, in the bulk lane for many. What cannot be sent is sent by a worker's rescue."""
        with suppress(MessageNotSent):
            self._messenger.send(job_ids, lane)

    def check(self, body: Mapping[str, Any]) -> ChatRequest:
        """The request as it would be sent. Raises InvalidRequest."""
        return ChatRequest.checked(body, model=self.settings.model, limits=self._limits)

    def _check(self, number: int, body: Mapping[str, Any]) -> ChatRequest:
        try:
            return self.check(body)
        except InvalidRequest as error:
            raise InvalidRequest(f"[{number}].{error.field}", error.reason) from None

    def job(self, job_id: str) -> Job:
        return Job(self, job_id)

    def wait_for_outcome(self, job_id: str, timeout: float | None) -> Outcome:
        """See Job.outcome."""
        end_s = None if timeout is None else time.monotonic() + timeout
        while True:
            outcome = self.outcome_now(job_id)
            if outcome is not None:
                return outcome
            left_s = LOOK_EVERY_S if end_s is None else min(LOOK_EVERY_S, end_s - time.monotonic())
            if left_s <= 0:
                raise ResultTimeout(f"job {job_id} has not ended within {timeout:g} s; it goes on")
            self.ledger.wait_for_end(job_id, left_s)

    def outcome_now(self, job_id: str) -> Outcome | None:
        """The outcome, or None while the job is open. Raises JobNotFound."""
        status = self.ledger.status(job_id)
        if not status.state.is_final:
            return None
        if status.state is JobState.CANCELLED:
            return cancelled(status)
        return self._stored(job_id)

    def outcomes(self, job_ids: Sequence[str]) -> list[Outcome]:
        """Of jobs that have ended, in order. Raises JobNotFound."""
        if not self.ledger.keeps_results:
            return [self._stored(job_id) for job_id in job_ids]
        found = []
        for job_id, record in zip(job_ids, self.ledger.records(job_ids), strict=True):
            if record is None:
                raise JobNotFound(job_id)
            found.append(outcome_of_record(record))
        return found

    def _stored(self, job_id: str) -> Outcome:
        meta = self._celery.backend.get_task_meta(job_id, cache=False)
        try:
            return outcome_of(meta["result"])
        except TypeError:
            raise JobNotFound(job_id) from None


def _key(field: str, key: str | None) -> str:
    """An idempotency key, checked: it comes from forms and databases, where a number is as likely. Empty: none."""
    if key is not None and not isinstance(key, str):
        raise InvalidRequest(field, f"expected a string, got {type(key).__name__}")
    return key or ""
