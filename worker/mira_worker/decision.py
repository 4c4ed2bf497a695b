"""Policy of a job: what follows from the meaning of a response. Pure: values in, a frozen decision out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from mira_queue.contract.errors import JobError, JobExpired
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.pace import Permit
from mira_queue.contract.settings import Settings
from mira_queue.ledger.records import Lease
from mira_worker.backoff import backoff
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited

# A message that waits for longer than this in a worker's memory is better kept in the ledger, which sends it when due.
MAX_COUNTDOWN = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Finish:
    """The job has its outcome."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Defer:
    """The job waits, because of `error`. The counts are its attempts and unanswered calls so far."""

    wait: timedelta
    error: JobError
    attempts: int
    unanswered_calls: int

    @property
    def sends_message(self) -> bool:
        """Return True if a message with a countdown carries the job. Otherwise, rescue sends one when it is due."""
        return self.wait <= MAX_COUNTDOWN


@dataclass(frozen=True, slots=True)
class Requeue:
    """The job returns to the queue intact. A job of a held batch gets no message: its supervisor decides."""

    sends_message: bool = True


Decision = Finish | Defer | Requeue


def decide(
    meaning: Meaning, lease: Lease, *, is_charged: bool, settings: Settings, uniform: Callable[[float, float], float]
) -> Decision:
    """Return what follows for a job from the meaning of its call's response.

    `is_charged` says whether the call costs the job an attempt. Only a charged fault can be the last one.
    """
    attempts, unanswered_calls = lease.attempts + is_charged, lease.unanswered_calls
    match meaning:
        case Completion():
            return Finish(replace(meaning, attempts=attempts, unanswered_calls=unanswered_calls))
        case Failed(error=error):
            return Finish(_failure(error, attempts, unanswered_calls))
        case RateLimited(error=error, retry_after=retry_after):
            return Defer(retry_after.wait, error, attempts, unanswered_calls)
        case Fault(error=error, may_be_billed=may_be_billed):
            unanswered_calls += may_be_billed
            if is_charged and attempts >= settings.max_attempts:
                return Finish(_failure(error, attempts, unanswered_calls))
            wait = backoff(max(1, attempts), settings.backoff_base, settings.backoff_cap, uniform)
            return Defer(wait, error, attempts, unanswered_calls)


def decide_denied(permit: Permit, lease: Lease) -> Decision:
    """Return what follows for a job whose call must not start."""
    match permit.verdict, permit.error:
        case "rejected", Failure() as failure:
            return Finish(replace(failure, attempts=lease.attempts, unanswered_calls=lease.unanswered_calls))
        case "expired", _ if not lease.group:
            late = JobExpired("the job's deadline passed before its call could start")
            return Finish(_failure(late, lease.attempts, lease.unanswered_calls))
        case (("held" | "expired"), _):
            return Requeue(sends_message=False)
    return Requeue()


def _failure(error: JobError, attempts: int, unanswered_calls: int) -> Failure:
    return replace(Failure.from_error(error), attempts=attempts, unanswered_calls=unanswered_calls)
