"""Run one job: claim, acquire a permit, post, read the response, decide, apply. Knows neither HTTP nor Celery."""

from __future__ import annotations

import random
import re
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import InternalError, JobError, Poison, QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.pace import Permit
from mira_queue.contract.settings import Settings
from mira_queue.contract.timeline import CallRecord
from mira_queue.ledger.accounts import Counts
from mira_queue.ledger.leases import Claimed
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import DecidedLease, Lease, NothingToDo
from mira_queue.runtime.crash_points import CrashPoints
from mira_worker.attempt_log import call_record, log_attempt
from mira_worker.chunk_publisher import ChunkPublisher
from mira_worker.decision import MAX_COUNTDOWN, NO_COUNTS, Decision, Defer, Finish, Requeue, decide, decide_denied
from mira_worker.event_stream import as_stream, asks_for_stream
from mira_worker.leases import HeldLeases
from mira_worker.pacing.pacer import Pacer
from mira_worker.pacing.waiting_line import HeldPermit
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited, read_response
from mira_worker.server_message import server_message
from mira_worker.transport import Transport


class ResultStore(Protocol):
    """A result backend on another server. `store` may be called twice with the same outcome."""

    def store(self, job_id: str, outcome: Outcome) -> None: ...

    def pack(self, outcome: Outcome) -> bytes: ...

    def unpack(self, packed: bytes) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Finished:
    """The job has its outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing is left to do for the message."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The job waits because of `error`, and needs a message with this countdown."""

    countdown: timedelta
    error: JobError


@dataclass(frozen=True, slots=True)
class SendNow:
    """The job is in the queue again, and needs a message in this lane immediately."""

    lane: Lane = Lane.FIRST


Next = Finished | Done | SendAgain | SendNow


@dataclass(slots=True, eq=False)
class JobRunner:
    """Runs jobs of one account, one at a time for each calling thread. `base` is the account's base URL."""

    _settings: Settings
    _ledger: Ledger
    pacer: Pacer
    base: str
    _leases: HeldLeases
    _transport: Transport
    _results: ResultStore | None
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _crash_points: CrashPoints
    # Leases of jobs that an exception has interrupted, and whose failed attempt could not be recorded.
    _interrupted: deque[Lease] = field(default_factory=deque)

    @property
    def account(self) -> str:
        return self.pacer.account

    def run(self, job_id: str) -> Next:
        """Claim the job and run it. If there is nothing to do, the message is Done."""
        return self.run_claimed(job_id, self.claim([job_id])[0])

    def claim(self, job_ids: Sequence[str]) -> list[Claimed]:
        """Claim jobs. The leases are extended until the job is passed to `run_claimed` or `release`."""
        self._crash_points.reach(CrashPoint.AFTER_MESSAGE)
        claimed = self._ledger.claim_many(self.account, self.base, job_ids, self._settings.lease)
        for each in claimed:
            if isinstance(each, Lease):
                self._leases.hold(each)
        return claimed

    def release(self, lease: Lease) -> Next:
        """Return a claimed job that has not started to the queue."""
        self._leases.drop(lease)
        return self._apply(lease, Requeue())

    def run_claimed(self, job_id: str, claimed: Claimed) -> Next:
        """Run a claimed job until it has an outcome or has to wait."""
        match claimed:
            case NothingToDo(why="early", wait_ms=wait_ms):
                early = timedelta(milliseconds=wait_ms)
                # The ledger sends a message for a longer wait when it is over: this one is superfluous.
                return SendAgain(early, JobError("not due yet")) if early <= MAX_COUNTDOWN else Done()
            case NothingToDo(why="foreign"):
                # It stays queued for its own account, whose workers send its message again.
                self._log.warning("foreign_job", job_id=job_id, account=self.account, base=self.base)
                return Done()
            case NothingToDo(why=why):
                self._log.debug("nothing_to_do", job_id=job_id, why=why)
                return Done()
            case DecidedLease(lease=lease, outcome=packed):
                assert self._results is not None
                return self._store(lease, self._results.unpack(packed))
        try:
            self._crash_points.reach(CrashPoint.AFTER_CLAIM)
            next_ = self._attempt(claimed)
        except Exception as error:  # noqa: BLE001
            # An expired lease would count as a crash of the worker. This one is extended until it is released.
            self._log_exception("internal_error", claimed, error)
            self._interrupted.append(claimed)
            return Done()
        except BaseException:
            self._leases.drop(claimed)
            raise
        self._leases.drop(claimed)
        return next_

    def release_interrupted(self) -> list[str]:
        """Release the jobs that an exception has interrupted. Return those that need a message."""
        released: list[str] = []
        while self._interrupted:
            lease = self._interrupted[0]
            if self._ledger.release(lease):
                released.append(lease.job_id)
            self._leases.drop(self._interrupted.popleft())
        return released

    def finish_poison(self, lease: Lease) -> None:
        """Store the outcome of a job that has crashed its workers."""
        detail = (
            f"its worker crashed {lease.crashes} times during its call (MIRA_MAX_CRASHES); "
            "check the workers' logs and memory before you retry it"
        )
        self._apply(lease, self._decide(Failed(Poison(detail)), lease, is_charged=False))

    def finish_expired(self, lease: Lease) -> None:
        """Store the outcome of a job whose deadline has passed before it was claimed."""
        self._apply(lease, decide_denied(Permit("expired"), lease))

    def _attempt(self, lease: Lease) -> Next:
        was_called = False
        try:
            held = self.pacer.acquire(lease)
            was_called = held.permit.may_start
            if not was_called:
                return self._apply(lease, decide_denied(held.permit, lease))
            return self._apply(lease, *self._call(held))
        except Exception as error:  # noqa: BLE001
            # A bug of ours or of a library. It is charged to the job as an attempt, and never as a crash.
            self._log_exception("internal_error", lease, error)
            internal = InternalError(
                f"{type(error).__name__} in the worker: its log has the traceback (internal_error)"
            )
            fault = Fault(internal, may_be_billed=was_called)
            try:
                return self._apply(lease, self._decide(fault, lease, is_charged=True))
            finally:
                self.pacer.abandon(lease)
        except BaseException:
            self.pacer.abandon(lease)
            raise

    def _call(self, held: HeldPermit) -> tuple[Decision, CallRecord]:
        lease = held.lease
        body = as_stream(lease.body) if lease.history.is_streamed else lease.body
        # Only clients of a gateway show an answer before it is complete.
        is_published = lease.project and asks_for_stream(body)
        response = self._transport.post(body, ChunkPublisher(self._ledger, lease) if is_published else None)
        self._crash_points.reach(CrashPoint.AFTER_ANSWER)
        now = datetime.now(UTC)
        meaning = read_response(response, now, self._transport.redact, re.compile(self._settings.failed_answer))
        message = "" if isinstance(meaning, Completion) else server_message(meaning.error, lease.body)
        is_charged = self.pacer.report(held, response, meaning, now, message)
        if not isinstance(meaning, RateLimited):
            decision = self._decide(meaning, lease, is_charged=is_charged)
        else:
            self._crash_points.reach(CrashPoint.AFTER_OPEN_BREAKER)
            decision = self._decide(meaning, lease, is_charged=is_charged, account=self.pacer.counts())
        log_attempt(self._log, lease, response, meaning, decision, message)
        return decision, call_record(held, response, meaning)

    def _decide(self, meaning: Meaning, lease: Lease, *, is_charged: bool, account: Counts = NO_COUNTS) -> Decision:
        settings, uniform = self._settings, random.uniform
        return decide(meaning, lease, is_charged=is_charged, settings=settings, uniform=uniform, account=account)

    def _apply(self, lease: Lease, decision: Decision, call: CallRecord | None = None) -> Next:
        match decision:
            case Finish(outcome=outcome):
                return self._finish(lease, outcome, call)
            case Defer():
                return self._defer(lease, decision, call)
            case Requeue(sends_message=sends_message):
                return self._requeue(lease, sends_message=sends_message)

    def _finish(self, lease: Lease, outcome: Outcome, call: CallRecord | None) -> Next:
        if self._results is None:
            is_stored = self._ledger.finish(lease, outcome, call)
            self._crash_points.reach(CrashPoint.AFTER_FINISH)
        elif is_stored := self._ledger.record_outcome(lease, self._results.pack(outcome)):
            self._crash_points.reach(CrashPoint.AFTER_RECORD_OUTCOME)
            return self._store(lease, outcome, call)
        if is_stored:
            return Finished(outcome)
        self._log.warning("outcome_dropped", job_id=lease.job_id, why="the lease is lost")
        return Done()

    def _store(self, lease: Lease, outcome: Outcome, call: CallRecord | None = None) -> Next:
        """Store a decided outcome. If this is interrupted, the next holder of the lease stores it."""
        assert self._results is not None
        try:
            self._results.store(lease.job_id, outcome)
            self._crash_points.reach(CrashPoint.AFTER_STORE)
            self._ledger.finish(lease, outcome, call)
        except Exception as error:  # noqa: BLE001
            # The outcome is decided and paid for: the attempt has not failed.
            self._log_exception("store_failed", lease, error)
            return Done()
        return Finished(outcome)

    def _defer(self, lease: Lease, decision: Defer, call: CallRecord | None) -> Next:
        is_deferred = self._ledger.defer(
            lease,
            decision.wait,
            self._settings.resend_after if decision.sends_message else timedelta(0),
            attempts=decision.attempts,
            unanswered_calls=decision.unanswered_calls,
            reason=str(decision.error)[:200],
            history=decision.history,
            call=call,
        )
        self._crash_points.reach(CrashPoint.AFTER_DEFER)
        return SendAgain(decision.wait, decision.error) if is_deferred and decision.sends_message else Done()

    def _requeue(self, lease: Lease, *, sends_message: bool) -> Next:
        try:
            is_queued = self._ledger.release(lease)
        except QueueUnavailable:
            # The lease expires, and the job is rescued.
            return Done()
        self._crash_points.reach(CrashPoint.AFTER_RELEASE)
        return SendNow(lease.lane) if is_queued and sends_message else Done()

    def _log_exception(self, event: str, lease: Lease, error: Exception) -> None:
        """Log where it was raised. Its message is left out, because it may quote the prompt or the key."""
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        self._log.error(
            event,
            job_id=lease.job_id,
            group=lease.group or None,
            attempt=lease.attempts + 1,
            error=type(error).__name__,
            traceback="".join(frames),
        )
