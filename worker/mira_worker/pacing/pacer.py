"""The pacer of one worker process: what its calls bring, for the record of the account and for its estimate."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import AccountFault, JobError, JobFault, ModelNotInPlan
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.pace import ConfiguredLimits, Permit, ReleasedPermit, Room
from mira_queue.ledger.accounts import Counts
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease
from mira_worker.pacing import breaker, growth, tokens
from mira_worker.pacing.headers import room_left
from mira_worker.pacing.learner import Learner
from mira_worker.pacing.waiting_line import HeldPermit, WaitingLine
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited
from mira_worker.transport import HttpResponse, NoResponse

# The server counts from when it sent its response, which is earlier than we do. The margin covers the resolution of the
# clocks, and their drift over a long wait.
WAIT_MARGIN, WAIT_MARGIN_SHARE = timedelta(milliseconds=10), 0.001

MILLISECOND = timedelta(milliseconds=1)


def with_wait_margin(wait: timedelta) -> timedelta:
    """Return a Retry-After that is not cut short by our clock."""
    return wait + WAIT_MARGIN + wait * WAIT_MARGIN_SHARE


class Pacer:
    """Pacer of one account. Jobs wait for their permits in its `line`. `stopping` ends every wait immediately.

    A process that runs single jobs only (`single_jobs`) gets more turns.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        configured: ConfiguredLimits,
        *,
        probe_lease: timedelta,
        stopping: threading.Event,
        log: FilteringBoundLogger,
        single_jobs: bool = False,
    ) -> None:
        self._ledger = ledger
        self.account = account
        self._log = log.bind(account=account)
        configured = growth.with_margin(configured)
        self._learner = Learner(ledger, account, configured, self._log, partial(ledger.jobs_left, account))
        self.line = WaitingLine(
            ledger,
            account,
            configured,
            self._learner.wait_ms,
            probe_lease=probe_lease,
            stopping=stopping,
            single_jobs=single_jobs,
        )

    def acquire(self, lease: Lease) -> HeldPermit:
        """Block until a call may start, or must not start. If the worker stops, the verdict stays "wait"."""
        return self.line.acquire(lease)

    def report(
        self, held: HeldPermit, response: HttpResponse | NoResponse, meaning: Meaning, now: datetime, message: str = ""
    ) -> bool:
        """Release a call's permit, and learn from its response. Return True if the call is charged to the job.

        `message` is the server's, for everything that waits because of it.
        """
        self.line.forget(held.lease)
        match meaning:
            case RateLimited(retry_after=retry_after):
                self._report_rate_limit(held, retry_after.wait, message)
                is_charged = False
            case Fault(error=error, retry_after=stated):
                is_charged = self._report_fault(held, error, stated, message, response.latency_ms)
            case Failed(error=JobFault(status=HTTPStatus.TOO_MANY_REQUESTS)):
                # The request is larger than the limit, which says nothing about the calls that fit.
                self.abandon(held.lease)
                is_charged = True
            case Failed(error=AccountFault() as error):
                of_model = isinstance(error, ModelNotInPlan)
                failure = Failure.from_error(error)
                released = self._released_permit(held, response, {}, None)
                self._ledger.record_rejection(self.account, held.lease.job_id, released, failure, of_model=of_model)
                self._log.warning("account_rejected", code=error.code, job_id=held.lease.job_id, message=message)
                is_charged = True
            case _:
                usage = meaning.usage if isinstance(meaning, Completion) else {}
                headers = response.headers if isinstance(response, HttpResponse) else {}
                self._release(held, self._released_permit(held, response, usage, room_left(headers, now)))
                is_charged = True
        self.line.stir()
        return is_charged

    def _released_permit(
        self, held: HeldPermit, response: HttpResponse | NoResponse, usage: Mapping[str, Any], room: Room | None
    ) -> ReleasedPermit:
        left, reset = (room.remaining, room.reset) if room else (None, timedelta(0))
        extra_tokens = tokens.used(usage, held.tokens) - held.tokens if held.tokens else 0
        times, reset_ms = held.times(response.latency_ms), round(reset / MILLISECOND)
        return ReleasedPermit(call_name(held.lease), held.permit, extra_tokens, left, reset_ms, times)

    def _release(self, held: HeldPermit, released: ReleasedPermit) -> None:
        """Release the permit of a call that was not rate-limited, with the next request or the next tick."""
        if held.permit.verdict != "probe":
            self.line.release(released)
        elif self._ledger.release_permits(self.account, [released]):
            self._log.info("breaker_closed")

    def counts(self) -> Counts:
        """Return the counts of the account's calls."""
        return self._ledger.pace_view(self.account).counts

    def _report_rate_limit(self, held: HeldPermit, wait: timedelta, message: str) -> None:
        """Open the circuit breaker for a Retry-After, which all processes of the account honor, and learn from it."""
        open_for = self._ledger.open_breaker(self.account, with_wait_margin(wait), message=message)
        self._log.warning("breaker_opened", reason="limit", wait_s=round(open_for.total_seconds(), 3), message=message)
        longer = self._learner.learn(call_name(held.lease), held.permit, wait, held.times(None))
        if longer > wait:
            self._ledger.open_breaker(self.account, with_wait_margin(longer), message=message)

    def _report_fault(
        self, held: HeldPermit, fault: JobError, stated: timedelta, message: str, latency_ms: int
    ) -> bool:
        """Record a fault. Return True if it is charged to the job, or False if the call was a probe of the service.

        A wait that the server states holds back the whole account.
        """
        is_charged = self._record_fault(held, fault, stated, message, latency_ms)
        if stated:
            self._open_for_faults(with_wait_margin(stated), message)
        return is_charged

    def _record_fault(
        self, held: HeldPermit, fault: JobError, stated: timedelta, message: str, latency_ms: int
    ) -> bool:
        times = held.times(latency_ms)
        streak = self._ledger.record_fault(self.account, held.lease, held.permit, message=message, times=times)
        if streak.closed_breaker:
            self._log.info("breaker_closed")
        pause = breaker.pause(streak)
        if pause and pause > stated:
            self._open_for_faults(pause, message, held.permit, in_a_row=streak.jobs)
        return breaker.is_charged(streak, fault)

    def _open_for_faults(self, pause: timedelta, message: str, permit: Permit | None = None, **more: int) -> None:
        open_for = self._ledger.open_breaker(self.account, pause, "faults", permit=permit, message=message)
        if open_for:
            wait_s = round(open_for.total_seconds(), 3)
            self._log.warning("breaker_opened", reason="faults", wait_s=wait_s, **more, message=message)

    def abandon(self, lease: Lease) -> None:
        """Release the permit of a call of this process that brought no result."""
        self.line.forget(lease)
        self.abandon_call(lease.job_id, lease.epoch)

    def abandon_call(self, job_id: str, epoch: int) -> None:
        """Release the permit of a call, perhaps of another process, that will bring no response."""
        if self._ledger.abandon_permit(self.account, job_id, epoch):
            self._log.info("probe_lost", job_id=job_id)
