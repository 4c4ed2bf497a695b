"""The Python client, as a Flask or Django view uses it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

from mira_producer.batches.client import Batches
from mira_producer.inline import InlineLedger, InlineMessenger, InlineWaits, Respond, echo
from mira_producer.job_lists import JobLists
from mira_producer.request_check import Check, check_of
from mira_producer.request_fields import check_field_names
from mira_producer.webhooks.target import checked_webhook
from mira_queue.contract.account import Account
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import InvalidRequest, JobCancelled, JobNotFound, QueueUnavailable, ResultTimeout
from mira_queue.contract.job_options import JobOptions
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure, Outcome, outcome_of, outcome_of_record
from mira_queue.contract.project_limits import NO_LIMITS, ProjectLimits
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.contract.unicode import is_unicode
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServerError
from mira_queue.ledger.jobs import cancelled
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.messages import MessageNotSent, Messenger
from mira_queue.ledger.records import NewJob
from mira_queue.ledger.server import QueueServer
from mira_queue.ledger.waits import Waits
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.celery_config import build_celery, stores_results_itself
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.settings_loader import load_settings
from mira_queue.runtime.traces import load_traces

MAX_JOBS_PER_ACCEPT = 500
NO_WORKER = "no worker is running"
# Loaded if traces are on.
TRACES = "mira_producer.traces"


class Job:
    """Handle on one job, as `MiraQueue.enqueue` and `MiraQueue.job` return it. It holds the id and no state.

    Every method raises JobNotFound for an id that this queue does not know, and QueueUnavailable if the queue's server
    cannot be reached.
    """

    id: str
    """The job's id, a UUID. Keep it in a session, a database, or a URL."""
    queue: MiraQueue
    """The client that returned this handle."""

    def __init__(self, queue: MiraQueue, job_id: str) -> None:
        self.queue = queue
        self.id = job_id

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def status(self) -> JobStatus:
        """Return the job's state, its counts, and why it waits or how it failed."""
        status = self.queue.ledger.status(self.id)
        if status.state is JobState.QUEUED and not status.reason:
            return replace(status, reason=self.queue.no_worker(status.account) or None)
        return status

    def result(self, timeout: float | None = None) -> Completion:
        """Wait until the job has finished, and return its completion.

        `timeout` is the longest wait in seconds: None waits without a limit, 0 does not wait.

        Raises a JobError if the job has failed or was cancelled, and ResultTimeout if it has not finished in time. A
        ResultTimeout is not a JobError: the job continues, and `result` can be called again.
        """
        return completion_of(self.outcome(timeout))

    def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait as `result` does, and return the Completion or the Failure. Raises ResultTimeout, but no JobError."""
        end_s = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            record = self._wait(end_s - time.monotonic())
            outcome = outcome_in(record) or self.queue.outcome_now(self.id)
            if outcome is not None:
                return outcome
            if time.monotonic() >= end_s:
                raise unfinished(self.id, timeout)

    def _wait(self, left_s: float) -> bytes | None:
        """Return the record of the finished job. None means that its outcome has to be read, or the timeout."""
        if left_s <= 0:
            return None
        wait = self.queue.waits.start(self.id)
        try:
            return wait.result(min(left_s, threading.TIMEOUT_MAX))
        except TimeoutError:
            return None
        finally:
            wait.cancel()

    def cancel(self) -> bool:
        """Cancel the job, permanently. A call that is in flight may still be billed.

        Return True if the job is cancelled, now or earlier; False if it had already finished.
        """
        return self.queue.ledger.cancel(self.id)

    def retry(self) -> bool:
        """Run a failed job again. Return False if the job has not failed."""
        return self.queue.retry_job(self.id)


class MiraQueue(JobLists):
    """Client of one queue. Create one for each process and share it between threads.

    Settings come from `MIRA_*` variables and `.env`. Keyword arguments named like the fields of Settings override
    them: `MiraQueue(redis_url="redis://localhost/0")`. A complete Settings object replaces them all.
    If MIRA_REDIS_URL is not set, the client uses the embedded server of MIRA_STATE_DIR, starts it if necessary, and
    keeps it running until `close`, the end of a `with` block, or the end of the process.

    Jobs belong to the account of MIRA_API_KEY and MIRA_API_BASE, or to a named account: that of `enqueue`, or else that
    of MIRA_ACCOUNT.

    Raises SettingsError for invalid settings or accounts, and QueueUnavailable if the embedded server cannot run.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.settings = settings or load_settings(**overrides)
        self.accounts = load_accounts(self.settings)
        traces = load_traces(self.settings, TRACES)
        self._spans = traces and traces.SendSpans()
        self._server = QueueServer(self.settings)
        try:
            self.redis_url = self._server.open()
        except EmbeddedServerError as error:
            raise QueueUnavailable(str(error)) from error
        self._server.keep_running()
        self.crash_points = CrashPoints(self.settings.crash_at)
        self._celery = build_celery(self.settings, self.redis_url)
        self._messenger = Messenger(self._celery)
        self.ledger = Ledger(
            connect(self.redis_url),
            result_ttl=self.settings.result_ttl,
            keeps_results=stores_results_itself(self.settings),
        )
        self.waits = Waits(self.ledger)

    @classmethod
    def inline(cls, respond: Respond = echo, settings: Settings | None = None, **overrides: Any) -> Self:
        """Return a client without a server, for an app's own tests: `enqueue` runs the job.

        `respond` gets the body of a request. It returns the text of an answer, the body of a chat completion, a
        Completion, or a Failure, or it raises a JobError. It may call an API. By default, the answer quotes the prompt.

        Requests are checked as usual, idempotency keys work, and jobs have all their methods. A delayed job runs when
        its result is waited for. Deadlines and priorities have no effect. There are no batches.
        """
        queue = cls.__new__(cls)
        queue.settings = settings or load_settings(**overrides)
        queue.accounts = load_accounts(queue.settings)
        queue.crash_points = CrashPoints(queue.settings.crash_at)
        queue.redis_url = ""
        queue._spans = None
        ledger = InlineLedger(respond)
        # Both have the methods that a client of single jobs calls, and no others.
        queue.ledger = cast(Ledger, ledger)
        queue.waits = cast(Waits, InlineWaits(ledger))
        queue._messenger = cast(Messenger, InlineMessenger(ledger))
        queue._server = queue._celery = cast(Any, ledger)
        return queue

    @property
    def batches(self) -> Batches:
        """The queue's batches: files of requests that run in the background."""
        if not self.redis_url:
            raise QueueUnavailable("an inline queue has no batches: test them with the embedded server")
        return Batches(self.ledger, self.settings, self.accounts, self.redis_url, self.crash_points)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and release the embedded server. Accepted jobs stay in the queue.

        Waits of other threads end with QueueUnavailable.
        """
        self.waits.close()
        if self._spans is not None:
            self._spans.close()
        self._celery.close()
        self._server.close()

    def enqueue(
        self,
        /,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        key: str | None = None,
        account: str | None = None,
        delay: timedelta | float | None = None,
        not_before: datetime | None = None,
        deadline: timedelta | float | datetime | None = None,
        priority: str | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Job:
        """Accept one chat job. When this method returns, the job is durable; a worker runs it.

        `messages` are those of the chat-completions API, and so are `fields` (`temperature=0.2`, `max_tokens=100`,
        `top_p`, ...). `model` defaults to MIRA_MODEL. `key` is an idempotency key: the same key with the same request
        returns the same job for as long as that job is stored. `account` is the name of an account; each account has
        its own idempotency keys. `extra_body` has further fields of the request; their names are not checked.

        The job starts after `delay` (a timedelta, or seconds) or `not_before` (a time with a zone): at most
        MIRA_RESCUE_INTERVAL later, if a worker is free. If its call has not started by the `deadline` (any of the
        three), the job fails with JobExpired. `priority` is "high", "normal", or "low", among the single jobs of the
        account. `metadata` has at most 16 pairs of texts, which are stored with the job, and not sent to the API.
        `webhook` is a URL to which a gateway posts the event that the job has ended, signed with MIRA_WEBHOOK_SECRET.

        Raises InvalidRequest if the API would reject the request, or for a field that is an option of a task queue
        (`countdown`) or misspelled (`temprature`); IdempotencyConflict if the key belongs to another request;
        UnknownAccount; AccountConflict if this queue knows the account with another base URL; and QueueUnavailable if
        the job was not accepted, or if that is unknown. With a key, calling again is safe.
        """
        check_field_names(fields)
        named = {} if model is None else {"model": model}
        body = {"messages": messages, **named, **fields, **(extra_body or {})}
        options = JobOptions.checked(
            datetime.now(UTC),
            delay=delay,
            not_before=not_before,
            deadline=deadline,
            priority=priority,
            metadata=metadata,
            webhook=checked_webhook(webhook, self.settings),
        )
        owner = self.accounts.named(account)
        request = check_of(self.settings, owner)(body)
        return self.accept([NewJob.single(request, checked_key("key", key), options=options)], owner)[0]

    def enqueue_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        *,
        keys: Iterable[str] | None = None,
        account: str | None = None,
        group: str = "",
        delay: timedelta | float | None = None,
        not_before: datetime | None = None,
        deadline: timedelta | float | datetime | None = None,
        priority: str | None = None,
        metadata: Mapping[str, str] | None = None,
        webhook: str | None = None,
    ) -> list[Job]:
        """Accept many jobs, given as request bodies, and return their handles in the same order.

        All bodies are checked before the first is accepted; the names of their fields are not. `keys` has one
        idempotency key for each body. `account` is the name of an account. The options of `enqueue` hold for all jobs.
        `group` names a list to which the ledger adds the ids of finished jobs. Jobs of a group have no deadline and
        no webhook, and `jobs` does not list them.

        Raises the errors of `enqueue`. The field of an InvalidRequest starts with the body's index: `[3].messages`.
        """
        owner = self.accounts.named(account)
        check = check_of(self.settings, owner)
        checked = [_checked(number, body, check) for number, body in enumerate(requests)]
        names = [
            checked_key(f"keys[{number}]", key)
            for number, key in enumerate([""] * len(checked) if keys is None else keys)
        ]
        in_group = checked_key("group", group)
        if len(names) != len(checked):
            raise InvalidRequest("keys", f"expected one for each of the {len(checked)} requests, got {len(names)}")
        if in_group and deadline is not None:
            raise InvalidRequest("deadline", "jobs of a group have none")
        if in_group and webhook is not None:
            raise InvalidRequest("webhook", "jobs of a group have none")
        options = JobOptions.checked(
            datetime.now(UTC),
            delay=delay,
            not_before=not_before,
            deadline=deadline,
            priority=priority,
            metadata=metadata,
            webhook=checked_webhook(webhook, self.settings),
        )
        return self.accept(
            [NewJob.single(request, key, in_group, options) for request, key in zip(checked, names, strict=True)], owner
        )

    def job(self, job_id: str) -> Job:
        """Return the handle of a job by its id. Calls no server: an unknown id is an error of the handle's methods."""
        return Job(self, job_id)

    def check(self, body: Mapping[str, Any]) -> ChatRequest:
        """Return the request as it would be sent for the current account. Raises InvalidRequest."""
        return check_of(self.settings, self.accounts.current)(body)

    def accept(self, jobs: Sequence[NewJob], account: Account | None = None) -> list[Job]:
        """Accept checked requests of an account (None: the current one), all for one lane, and send their messages."""
        account = account or self.accounts.current
        handles = []
        # In chunks: a job that is accepted long before its message is sent looks like one whose message was lost.
        for start in range(0, len(jobs), MAX_JOBS_PER_ACCEPT):
            chunk = jobs[start : start + MAX_JOBS_PER_ACCEPT]
            if self._spans is None:
                handles += self._accept(chunk, account)
            else:
                with self._spans.send(account.id, chunk) as traced:
                    handles += self._accept(traced, account)
        return handles

    def _accept(self, jobs: Sequence[NewJob], account: Account) -> list[Job]:
        self.crash_points.reach(CrashPoint.BEFORE_ACCEPT)
        accepted = self.ledger.accept(account.id, jobs, base=account.base)
        self.crash_points.reach(CrashPoint.AFTER_ACCEPT)
        self.send(account.id, [job.id for job in accepted if job.is_new and job.is_due], jobs[0].lane)
        return [self.job(job.id) for job in accepted]

    def retry_job(self, job_id: str, limits: ProjectLimits = NO_LIMITS) -> bool:
        """Do what `Job.retry` does."""
        done = self.ledger.retry(job_id, limits)
        if done:
            status = self.ledger.status(job_id)
            self.ledger.probe_now(status.account)
            self.send(status.account, [job_id], status.priority.lane)
        return done

    def send(self, account: str, job_ids: Sequence[str], lane: Lane = Lane.NORMAL) -> None:
        """Send the messages of accepted jobs of an account, given by its id.

        A message that cannot be sent now is sent by a worker's rescue step.
        """
        with suppress(MessageNotSent):
            self._messenger.send(account, job_ids, lane)

    def no_worker(self, account: str) -> str:
        """Return that no worker runs the jobs of this account, given by its id; empty if one does."""
        served = {worker.account for worker in self.ledger.live_workers()}
        if account in served:
            return ""
        return f"no worker serves account {account}" if served else NO_WORKER

    def outcome_now(self, job_id: str) -> Outcome | None:
        """Return the outcome, or None if the job has not finished. Raises JobNotFound."""
        # Not its status: reading that takes a connection for each thread, and a thousand waits may time out together.
        finished = self.ledger.find_finished([job_id])
        if not finished:
            return None
        if finished[job_id] is None:
            raise JobNotFound(job_id)
        if finished[job_id] is JobState.CANCELLED:
            return cancelled(self.ledger.status(job_id))
        return self.outcomes([job_id])[0]

    def outcomes(self, job_ids: Sequence[str]) -> list[Outcome]:
        """Return the outcomes of finished jobs, in the order of their ids. Raises JobNotFound."""
        if not self.ledger.keeps_results:
            return [self._from_result_backend(job_id) for job_id in job_ids]
        found = []
        for job_id, record in zip(job_ids, self.ledger.records(job_ids), strict=True):
            if record is None:
                raise JobNotFound(job_id)
            found.append(outcome_of_record(record))
        return found

    def _from_result_backend(self, job_id: str) -> Outcome:
        meta = self._celery.backend.get_task_meta(job_id, cache=False)
        try:
            return outcome_of(meta["result"])
        except TypeError:
            # A cancelled job has no record there.
            status = self.ledger.status(job_id)
            if status.state is JobState.CANCELLED:
                return cancelled(status)
            raise JobNotFound(job_id) from None


def _checked(number: int, body: Mapping[str, Any], check: Check) -> ChatRequest:
    try:
        return check(body)
    except InvalidRequest as error:
        raise InvalidRequest(f"[{number}].{error.field}", error.reason) from None


def completion_of(outcome: Outcome) -> Completion:
    """Return the completion, or raise the JobError that the failure stands for."""
    if isinstance(outcome, Completion):
        return outcome
    raise outcome.to_error()


def outcome_in(record: bytes | None) -> Outcome | None:
    """Return the outcome in the record of a wait, or None if it has to be read."""
    outcome = outcome_of_record(record) if record else None
    # A call that was in flight when the job was cancelled is counted in its status, and not in its record.
    return None if isinstance(outcome, Failure) and outcome.code == JobCancelled.code else outcome


def unfinished(job_id: str, timeout: float | None) -> ResultTimeout:
    """Return the error for a job that has not finished after `timeout` seconds."""
    return ResultTimeout(f"job {job_id} has not finished within {timeout:g} s; it continues")


def checked_key(field: str, key: str | None) -> str:
    """Return the idempotency key, or an empty one for None. Forms and databases may also hold a number."""
    if key is not None and not isinstance(key, str):
        raise InvalidRequest(field, f"expected a string, got {type(key).__name__}")
    if not is_unicode(key or ""):
        raise InvalidRequest(field, "not valid Unicode: it has half of a surrogate pair")
    return key or ""
