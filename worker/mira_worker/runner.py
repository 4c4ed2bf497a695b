"""One job, from its message to what happens next. Decides nothing about HTTP and knows no Celery."""

from __future__ import annotations

import random
import threading
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import InternalError, InvalidKey, JobError, QueueUnavailable
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.settings import Settings
from mira_queue.ledger.leases import Claimed
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import DecidedLease, Lease, NothingToDo
from mira_queue.runtime.crash_points import CrashPoints
from mira_worker.backoff import backoff
from mira_worker.leases import LeaseKeeper
from mira_worker.pacing import tokens
from mira_worker.pacing.headers import room_left
from mira_worker.pacing.pacer import Pacer, Pass
from mira_worker.response import Answered, Faulty, Limited, Meaning, Terminal, read_answer
from mira_worker.transport import HttpAnswer, NoAnswer, Transport

# A message that waits longer than this in a worker's memory is better kept in the ledger, which sends it when due.
LONGEST_COUNTDOWN = timedelta(minutes=5)


class ResultStore(Protocol):
    """A result backend elsewhere. `store` may be called twice with the same outcome."""

    def store(self, job_id: str, outcome: Outcome) -> None: ...

    def pack(self, outcome: Outcome) -> bytes: ...

    def unpack(self, packed: bytes) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing more to send for this message."""


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The job waits; send its message with this countdown. `error` says why."""

    countdown: timedelta
    error: JobError


@dataclass(frozen=True, slots=True)
class SendNow:
    """The job went back to the queue unharmed; send its message at once."""


Next = Done | SendAgain | SendNow


class JobRunner:
    """Runs one job at a time for each calling thread; everything it needs is handed in."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        pacer: Pacer,
        leases: LeaseKeeper,
        transport: Transport | None,
        results: ResultStore | None,
        stopping: threading.Event,
        log: FilteringBoundLogger,
        crash_points: CrashPoints,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._pacer = pacer
        self._leases = leases
        self._transport = transport
        self._results = results
        self._stopping = stopping
        self._log = log
        self._crash_points = crash_points
        # Leases of jobs whose end an exception prevented, and that the ledger could not be told about.
        self._unfinished: deque[Lease] = deque()

    def run(self, job_id: str) -> Next:
        """Claim the job and bring it one step further. A message that asks for nothing is Done."""
        return self.run_claimed(job_id, self.claim([job_id])[0])

    def claim(self, job_ids: Sequence[str]) -> list[Claimed]:
        """Leases of these jobs are kept from now on: each is to be given to `run_claimed` or to `give_back`."""
        self._crash_points.reach(CrashPoint.AFTER_MESSAGE)
        claimed = self._ledger.claim_many(job_ids, self._settings.lease)
        for each in claimed:
            if isinstance(each, Lease):
                self._leases.hold(each)
        return claimed

    def give_back(self, lease: Lease) -> Next:
        """Return a claimed job that was not begun."""
        self._leases.release(lease)
        return self._give_back(lease)

    def run_claimed(self, job_id: str, claimed: Claimed) -> Next:
        """Bring a claimed job one step further."""
        match claimed:
            case NothingToDo(why="early", wait_ms=wait_ms):
                early = timedelta(milliseconds=wait_ms)
                # A stray message for a job that the ledger keeps: it gets another one when it is due.
                return SendAgain(early, JobError("not due yet")) if early <= LONGEST_COUNTDOWN else Done()
            case NothingToDo(why=why):
                self._log.debug("nothing_to_do", job_id=job_id, why=why)
                return Done()
            case DecidedLease(lease=lease, outcome=packed):
                assert self._results is not None
                return self._store_elsewhere(lease, self._results.unpack(packed))
        try:
            self._crash_points.reach(CrashPoint.AFTER_CLAIM)
            next_ = self._attempt(claimed)
        except Exception as error:  # noqa: BLE001
            # An expired lease would count as a crash of the worker: this one is held until it is given back.
            self._log_exception("internal_error", claimed, error)
            self._unfinished.append(claimed)
            return Done()
        except BaseException:
            self._leases.release(claimed)
            raise
        self._leases.release(claimed)
        return next_

    def give_back_unfinished(self) -> list[str]:
        """Return to the queue what an exception kept from its end. Returns the jobs that need a message."""
        given: list[str] = []
        while self._unfinished:
            lease = self._unfinished[0]
            if self._ledger.release(lease):
                given.append(lease.job_id)
            self._leases.release(self._unfinished.popleft())
        return given

    def finish_as(self, lease: Lease, error: JobError) -> Next:
        """Store an error that no call brought (poison)."""
        return self._finish(lease, Failure.from_error(error))

    def _attempt(self, lease: Lease) -> Next:
        if self._transport is None:
            error = InvalidKey(
                "no key: set MIRA_API_KEY where the worker runs", None, lease.attempts, lease.unanswered_calls
            )
            return self._finish(lease, Failure.from_error(error))
        leave: Pass | None = None
        try:
            leave = self._pacer.wait_for_pass(lease)
            return self._give_back(lease) if leave is None else self._call(lease, leave)
        except Exception as error:  # noqa: BLE001
            return self._fail_attempt(lease, error, was_called=leave is not None)
        except BaseException:
            self._pacer.gave_up(lease)
            raise

    def _call(self, lease: Lease, leave: Pass) -> Next:
        assert self._transport is not None
        answer = self._transport.post(lease.body)
        self._crash_points.reach(CrashPoint.AFTER_ANSWER)
        now = datetime.now(UTC)
        meaning = read_answer(answer, now, self._transport.redact)
        self._log_attempt(lease, answer, meaning)
        if isinstance(meaning, Answered | Terminal) and isinstance(answer, HttpAnswer):
            usage = meaning.usage if isinstance(meaning, Answered) else {}
            self._pacer.answered(leave, tokens.used(usage, leave.tokens), room_left(answer.headers, now))
        return self._act(lease, answer, meaning, leave)

    def _fail_attempt(self, lease: Lease, error: Exception, *, was_called: bool) -> Next:
        """An exception in our code, or in a library: the job is charged with an attempt, and never with a crash."""
        self._log_exception("internal_error", lease, error)
        charged = replace(lease, attempts=lease.attempts + 1, unanswered_calls=lease.unanswered_calls + was_called)
        fault = InternalError(f"{type(error).__name__} in the worker: its log has the traceback (internal_error)")
        try:
            return self._wait_or_fail(charged, fault, is_last=charged.attempts >= self._settings.max_attempts)
        finally:
            self._pacer.gave_up(lease)

    def _act(self, lease: Lease, answer: HttpAnswer | NoAnswer, meaning: Meaning, leave: Pass) -> Next:
        match meaning:
            case Answered(body=body, text=text, finish_reason=finish_reason, usage=usage):
                completion = Completion(
                    text, finish_reason, usage, body, lease.attempts + 1, lease.unanswered_calls, answer.latency_ms
                )
                return self._finish(lease, completion)
            case Terminal(error=error):
                return self._finish(lease, _charged(error, lease.attempts + 1, lease.unanswered_calls))
            case Limited(error=error, retry_after=retry_after):
                self._pacer.refused(leave, retry_after.wait)
                self._crash_points.reach(CrashPoint.AFTER_OPEN_BREAKER)
                return self._defer(lease, retry_after.wait, error)
            case Faulty(fault=fault, may_be_billed=may_be_billed):
                is_charged = self._pacer.faulted(leave, fault)
                charged = replace(
                    lease,
                    attempts=lease.attempts + is_charged,
                    unanswered_calls=lease.unanswered_calls + may_be_billed,
                )
                is_last = is_charged and charged.attempts >= self._settings.max_attempts
                return self._wait_or_fail(charged, fault, is_last=is_last)

    def _wait_or_fail(self, lease: Lease, error: JobError, *, is_last: bool) -> Next:
        """After a failed attempt: backoff, or the end of the job."""
        if is_last:
            return self._finish(lease, _charged(error, lease.attempts, lease.unanswered_calls))
        wait = backoff(max(1, lease.attempts), self._settings.backoff_base, self._settings.backoff_cap, random.uniform)
        return self._defer(lease, wait, error)

    def _finish(self, lease: Lease, outcome: Outcome) -> Next:
        if self._results is not None:
            if not self._ledger.record_outcome(lease, self._results.pack(outcome)):
                self._log.warning("outcome_dropped", job_id=lease.job_id, why="the lease was lost")
                return Done()
            self._crash_points.reach(CrashPoint.AFTER_RECORD_OUTCOME)
            return self._store_elsewhere(lease, outcome)
        if not self._ledger.finish(lease, outcome):
            self._log.warning("outcome_dropped", job_id=lease.job_id, why="the lease was lost")
        self._crash_points.reach(CrashPoint.AFTER_FINISH)
        return Done()

    def _store_elsewhere(self, lease: Lease, outcome: Outcome) -> Next:
        """Store a settled outcome; when this is cut short, the lease passes and the next holder stores it."""
        assert self._results is not None
        try:
            self._results.store(lease.job_id, outcome)
            self._crash_points.reach(CrashPoint.AFTER_STORE)
            self._ledger.finish(lease, outcome)
        except Exception as error:  # noqa: BLE001
            # The outcome is decided and paid for: this is no failed attempt.
            self._log_exception("store_failed", lease, error)
        return Done()

    def _defer(self, lease: Lease, wait: timedelta, error: JobError) -> Next:
        by_message = wait <= LONGEST_COUNTDOWN
        kept = self._ledger.defer(
            lease,
            wait,
            self._settings.resend_after if by_message else timedelta(0),
            attempts=lease.attempts,
            unanswered_calls=lease.unanswered_calls,
            reason=str(error)[:200],
        )
        self._crash_points.reach(CrashPoint.AFTER_DEFER)
        return SendAgain(wait, error) if kept and by_message else Done()

    def _give_back(self, lease: Lease) -> Next:
        try:
            kept = self._ledger.release(lease)
        except QueueUnavailable:
            # Its lease passes, and it is rescued.
            return Done()
        self._crash_points.reach(CrashPoint.AFTER_RELEASE)
        return SendNow() if kept else Done()

    def _log_attempt(self, lease: Lease, answer: HttpAnswer | NoAnswer, meaning: Meaning) -> None:
        status = answer.status if isinstance(answer, HttpAnswer) else None
        entry = self._log.bind(
            job_id=lease.job_id,
            group=lease.group or None,
            attempt=lease.attempts + 1,
            status=status,
            latency_ms=answer.latency_ms,
        )
        match meaning:
            case Answered():
                entry.info("attempt", outcome="succeeded")
            case Terminal(error=error):
                entry.warning("attempt", outcome="failed", code=error.code)
            case Limited(error=error, retry_after=retry_after):
                entry.warning(
                    "attempt",
                    outcome="limited",
                    code=error.code,
                    wait_s=retry_after.wait.total_seconds(),
                    retry_after_remark=retry_after.remark,
                )
            case Faulty(fault=fault, may_be_billed=may_be_billed):
                # A server's words may quote the prompt, which no log may hold; the outcome has them.
                words = fault.detail[:200] if isinstance(answer, NoAnswer) else None
                entry.warning("attempt", outcome="fault", code=fault.code, detail=words, may_be_billed=may_be_billed)

    def _log_exception(self, event: str, lease: Lease, error: Exception) -> None:
        """Log where it happened. The message of an exception may quote the prompt or the key: it is left out."""
        frames = traceback.format_list(traceback.extract_tb(error.__traceback__))
        self._log.error(
            event,
            job_id=lease.job_id,
            group=lease.group or None,
            attempt=lease.attempts + 1,
            error=type(error).__name__,
            traceback="".join(frames),
        )


def _charged(error: JobError, attempts: int, unanswered_calls: int) -> Failure:
    return replace(Failure.from_error(error), attempts=attempts, unanswered_calls=unanswered_calls)
