"""Policy of a job: what follows from the meaning of a response. Pure: values in, a frozen decision out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from mira_queue.contract.call_history import NO_HISTORY, CallHistory
from mira_queue.contract.errors import JobError, JobExpired, NeverAdmitted, ServerTimeout
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.pace import Permit
from mira_queue.contract.settings import Settings
from mira_queue.ledger.accounts import Counts
from mira_queue.ledger.records import Lease
from mira_worker.backoff import backoff
from mira_worker.rejected_alone import after_rejection, is_cause
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited

NO_COUNTS = Counts()
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
    history: CallHistory = NO_HISTORY

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
    meaning: Meaning,
    lease: Lease,
    *,
    is_charged: bool,
    settings: Settings,
    uniform: Callable[[float, float], float],
    account: Counts = NO_COUNTS,
) -> Decision:
    """Return what follows for a job from the meaning of its call's response.

    `is_charged` says whether the call costs the job an attempt. Only a charged fault can be the last one. `account` has
    the counts of the account's calls after a 429.
    """
    attempts, unanswered_calls = lease.attempts + is_charged, lease.unanswered_calls
    history = _history(meaning, lease.history, account)
    match meaning:
        case Completion():
            counts: dict[str, Any] = {"attempts": attempts, "unanswered_calls": unanswered_calls}
            return Finish(replace(meaning, **counts, lost_usage=history.lost_usage))
        case Failed(error=error):
            return Finish(_failure(error, attempts, unanswered_calls, history))
        case RateLimited(error=error, retry_after=retry_after):
            if is_cause(history, account.sent, account.rate_limited):
                return Finish(_failure(_never_admitted(error, history), attempts, unanswered_calls, history))
            return Defer(retry_after.wait, error, attempts, unanswered_calls, history)
        case Fault(error=error, may_be_billed=may_be_billed, retry_after=stated):
            unanswered_calls += may_be_billed
            if is_charged and attempts >= settings.max_attempts:
                return Finish(_failure(error, attempts, unanswered_calls, history))
            wait = backoff(max(1, attempts), settings.backoff_base, settings.backoff_cap, uniform)
            return Defer(max(wait, stated), error, attempts, unanswered_calls, history)


def _history(meaning: Meaning, before: CallHistory, account: Counts) -> CallHistory:
    """Return what the job's next call has to know."""
    if isinstance(meaning, RateLimited):
        return after_rejection(before, account.sent, account.rate_limited)
    usage = {} if isinstance(meaning, Completion) else meaning.usage
    return replace(
        before,
        # The server has a limit on responses that are not streamed.
        is_streamed=before.is_streamed or (isinstance(meaning, Fault) and isinstance(meaning.error, ServerTimeout)),
        prompt_tokens=before.prompt_tokens + usage.get("prompt_tokens", 0),
        completion_tokens=before.completion_tokens + usage.get("completion_tokens", 0),
        rejections=0,
    )


def _never_admitted(error: JobError, history: CallHistory) -> NeverAdmitted:
    detail = (
        f"rate-limited {history.rejections} times while other jobs of the account were accepted: "
        f"the request may be larger than a limit; the server's message: {error.detail}"
    )
    return NeverAdmitted(detail, error.status, body=error.body, request_id=error.request_id)


def decide_denied(permit: Permit, lease: Lease) -> Decision:
    """Return what follows for a job whose call must not start."""
    match permit.verdict, permit.error:
        case "rejected", Failure() as failure:
            counts: dict[str, Any] = {"attempts": lease.attempts, "unanswered_calls": lease.unanswered_calls}
            return Finish(replace(failure, **counts, lost_usage=lease.history.lost_usage))
        case "expired", _ if not lease.group:
            late = JobExpired("the job's deadline passed before its call could start")
            return Finish(_failure(late, lease.attempts, lease.unanswered_calls, lease.history))
        case (("held" | "expired"), _):
            return Requeue(sends_message=False)
    return Requeue()


def _failure(error: JobError, attempts: int, unanswered_calls: int, history: CallHistory) -> Failure:
    failure = Failure.from_error(error)
    return replace(failure, attempts=attempts, unanswered_calls=unanswered_calls, lost_usage=history.lost_usage)
