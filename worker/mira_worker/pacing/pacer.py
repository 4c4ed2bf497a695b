"""The pacer of one worker process. Its jobs wait in one line, and the first one requests permits for all."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from itertools import islice
from typing import Any

from structlog.typing import FilteringBoundLogger

from mira_queue.contract import names
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
from mira_worker.response_meaning import Failed, Fault, Meaning, RateLimited
from mira_worker.transport import HttpResponse, NoResponse

# The permits of a process that was killed expire after this. A live process renews them three times as often.
CALL_LEASE = timedelta(seconds=4)
# The wait if only a response can free a slot. Other processes announce their responses, but one may be missed.
ASK_AGAIN = timedelta(milliseconds=250)
# No sleep is longer than this, so that a circuit breaker that was closed by hand is noticed.
MAX_SLEEP_S = names.MAX_SLEEP.total_seconds()
# A call that has not started this long after it acquired its permit (a stopped process, a busy machine) checks whether
# it still may: its batch may be paused by now, or the circuit breaker open.
STALE_S = 0.05
# Jobs in one request for permits.
MAX_JOBS_PER_REQUEST = 32
# The ledger's clock may be a little behind ours when a deadline passes.
DEADLINE_MARGIN_S = 0.02
# Weight of a call of a process that runs single jobs only. If the account is at its limit, such a process goes first,
# and gets four turns for one of the others: it passes files, and does not stop them.
SINGLE_JOBS_WEIGHT = 1 / 4
# The server counts from when it sent its response, which is earlier than we do. The margin covers the resolution of the
# clocks, and their drift over a long wait.
WAIT_MARGIN, WAIT_MARGIN_SHARE = timedelta(milliseconds=10), 0.001

MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class HeldPermit:
    """Permission to make one call of a job."""

    lease: Lease
    permit: Permit
    tokens: int = 0


def with_wait_margin(wait: timedelta) -> timedelta:
    """Return a Retry-After that is not cut short by our clock."""
    return wait + WAIT_MARGIN + wait * WAIT_MARGIN_SHARE


class _Place:
    """Place of a job in the process's line."""

    __slots__ = ("expires_s", "lease", "permit", "permit_s", "stir", "tokens")

    def __init__(self, lease: Lease, estimate: int) -> None:
        self.lease = lease
        self.tokens = estimate
        self.permit: Permit | None = None
        self.permit_s = 0.0
        self.stir = threading.Event()
        left = lease.time_left
        self.expires_s = math.inf if left is None else time.monotonic() + left.total_seconds()


class Pacer:
    """Pacer of one account. `stopping` ends every wait immediately. The pacer thread calls `tick` often.

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
        self.process = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._ledger = ledger
        self.account = account
        self._configured = growth.with_margin(configured)
        self._probe_lease = probe_lease
        self._weight = SINGLE_JOBS_WEIGHT if single_jobs else 1.0
        self._stopping = stopping
        self._log = log.bind(account=account)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._line: deque[_Place] = deque()
        self._released: list[ReleasedPermit] = []
        self._in_flight: dict[str, Lease] = {}
        self._learner = Learner(ledger, account, self._configured, self._log, partial(ledger.jobs_left, account))

    def acquire(self, lease: Lease) -> HeldPermit:
        """Block until a call may start, or must not start. If the worker stops, the verdict stays "wait"."""
        while True:
            place = self._wait_in_line(lease)
            if place.permit is None:
                return HeldPermit(lease, Permit("wait"), place.tokens)
            permit = self._confirmed(lease, place.permit, place.permit_s)
            if permit.verdict != "wait":
                return HeldPermit(lease, permit, place.tokens)

    def _confirmed(self, lease: Lease, permit: Permit, since_s: float) -> Permit:
        """Return the permit, which is from `since_s`; or, if its call was held up, the verdict that has replaced it."""
        fresh_s, quickest_s = STALE_S, math.inf
        while permit.may_start and time.monotonic() - since_s > fresh_s:
            since_s = time.monotonic()
            permit = self._ledger.confirm_permit(self.account, lease, permit)
            # A distant server never responds sooner: without this, no call would ever start.
            if quickest_s < math.inf:
                fresh_s = max(STALE_S, 2 * quickest_s)
            quickest_s = min(quickest_s, time.monotonic() - since_s)
        if not permit.may_start:
            self._forget_call(lease)
        return permit

    def _wait_in_line(self, lease: Lease) -> _Place:
        place = _Place(lease, tokens.estimated(lease.body) if self._configured.tokens else 0)
        with self._lock:
            self._line.append(place)
            is_first = self._line[0] is place
            if place.expires_s < math.inf:
                # The first job may sleep for longer than this one has time.
                self._line[0].stir.set()
        try:
            while place.permit is None and not self._stopping.is_set():
                if not is_first:
                    place.stir.wait()
                    place.stir.clear()
                    is_first = self._line[0] is place
                    continue
                wait_s = self._ask()
                if wait_s > 0 and place.permit is None:
                    place.stir.wait(min(wait_s, MAX_SLEEP_S, self._until_deadline_s()))
                    place.stir.clear()
        finally:
            self._leave(place)
            if place.permit is None:
                # A request in progress may still bring a permit, which must not be lost.
                with self._asking:
                    pass
        return place

    def _until_deadline_s(self) -> float:
        """Return the time until the next deadline of a job in line. The ledger then says that it has expired."""
        with self._lock:
            first_s = min(place.expires_s for place in islice(self._line, MAX_JOBS_PER_REQUEST))
        return max(DEADLINE_MARGIN_S, first_s - time.monotonic())

    def report(
        self, held: HeldPermit, response: HttpResponse | NoResponse, meaning: Meaning, now: datetime, message: str = ""
    ) -> bool:
        """Release a call's permit, and learn from its response. Return True if the call is charged to the job.

        `message` is the server's, for everything that waits because of it.
        """
        self._forget_call(held.lease)
        match meaning:
            case RateLimited(retry_after=retry_after):
                self._report_rate_limit(held, retry_after.wait, message)
                is_charged = False
            case Fault(error=error, retry_after=stated):
                is_charged = self._report_fault(held, error, stated, message)
            case Failed(error=JobFault(status=HTTPStatus.TOO_MANY_REQUESTS)):
                # The request is larger than the limit, which says nothing about the calls that fit.
                self.abandon(held.lease)
                is_charged = True
            case Failed(error=AccountFault() as error):
                of_model = isinstance(error, ModelNotInPlan)
                failure = Failure.from_error(error)
                released = self._released_permit(held, {}, None)
                self._ledger.record_rejection(self.account, held.lease.job_id, released, failure, of_model=of_model)
                self._log.warning("account_rejected", code=error.code, job_id=held.lease.job_id, message=message)
                is_charged = True
            case _:
                usage = meaning.usage if isinstance(meaning, Completion) else {}
                headers = response.headers if isinstance(response, HttpResponse) else {}
                self._release(held, self._released_permit(held, usage, room_left(headers, now)))
                is_charged = True
        self.stir()
        return is_charged

    def _released_permit(self, held: HeldPermit, usage: Mapping[str, Any], room: Room | None) -> ReleasedPermit:
        left, reset = (room.remaining, room.reset) if room else (None, timedelta(0))
        extra_tokens = tokens.used(usage, held.tokens) - held.tokens if held.tokens else 0
        return ReleasedPermit(call_name(held.lease), held.permit, extra_tokens, left, round(reset / MILLISECOND))

    def _release(self, held: HeldPermit, released: ReleasedPermit) -> None:
        """Release the permit of a call that was not rate-limited, with the next request or the next tick."""
        if held.permit.verdict != "probe":
            with self._lock:
                self._released.append(released)
        elif self._ledger.release_permits(self.account, [released]):
            self._log.info("breaker_closed")

    def counts(self) -> Counts:
        """Return the counts of the account's calls."""
        return self._ledger.pace_view(self.account).counts

    def _report_rate_limit(self, held: HeldPermit, wait: timedelta, message: str) -> None:
        """Open the circuit breaker for a Retry-After, which all processes of the account honor, and learn from it."""
        open_for = self._ledger.open_breaker(self.account, with_wait_margin(wait), message=message)
        self._log.warning("breaker_opened", reason="limit", wait_s=round(open_for.total_seconds(), 3), message=message)
        longer = self._learner.learn(call_name(held.lease), held.permit, wait)
        if longer > wait:
            self._ledger.open_breaker(self.account, with_wait_margin(longer), message=message)

    def _report_fault(self, held: HeldPermit, fault: JobError, stated: timedelta, message: str) -> bool:
        """Record a fault. Return True if it is charged to the job, or False if the call was a probe of the service.

        A wait that the server states holds back the whole account.
        """
        is_charged = self._record_fault(held, fault, stated, message)
        if stated:
            self._open_for_faults(with_wait_margin(stated), message)
        return is_charged

    def _record_fault(self, held: HeldPermit, fault: JobError, stated: timedelta, message: str) -> bool:
        streak = self._ledger.record_fault(self.account, held.lease, held.permit, message=message)
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
        self._forget_call(lease)
        self.abandon_call(lease.job_id, lease.epoch)

    def abandon_call(self, job_id: str, epoch: int) -> None:
        """Release the permit of a call, perhaps of another process, that will bring no response."""
        if self._ledger.abandon_permit(self.account, job_id, epoch):
            self._log.info("probe_lost", job_id=job_id)

    def stir(self) -> None:
        """Make the first job in line request permits again, because something has changed."""
        with self._lock:
            if self._line:
                self._line[0].stir.set()

    def stop(self) -> None:
        """End every wait. `stopping` is set already."""
        with self._lock:
            for place in self._line:
                place.stir.set()

    def tick(self) -> None:
        """Release permits that no request has carried: other processes may wait for the slots."""
        with self._lock:
            idle = not self._line and self._released
        if idle:
            self._ask()

    def renew_permits(self) -> None:
        """Renew the permits of calls in flight. If this process crashes, they expire."""
        with self._lock:
            calls = list(self._in_flight)
        if calls:
            self._ledger.renew_permits(self.account, calls, CALL_LEASE)

    def _ask(self) -> float:
        """Request permits for all waiting jobs in one round trip. Return the seconds that the first one should wait."""
        with self._asking:
            with self._lock:
                asking = [self._line[index] for index in range(min(MAX_JOBS_PER_REQUEST, len(self._line)))]
                released, self._released = self._released, []
            state, permits = self._ledger.acquire_permits(
                self.account,
                self.process,
                [(place.lease, place.tokens) for place in asking],
                released,
                configured=self._configured,
                call_lease=CALL_LEASE,
                probe_lease=self._probe_lease,
                ask_again=ASK_AGAIN,
                weight=self._weight,
            )
            now_s = time.monotonic()
            with self._lock:
                for place, permit in zip(asking, permits, strict=True):
                    if permit.verdict == "wait":
                        continue
                    if permit.may_start:
                        self._in_flight[call_name(place.lease)] = place.lease
                    place.permit, place.permit_s = permit, now_s
                    place.stir.set()
        return self._learner.wait_ms(state) / 1000

    def _leave(self, place: _Place) -> None:
        with self._lock:
            self._line.remove(place)
            if self._line:
                self._line[0].stir.set()

    def _forget_call(self, lease: Lease) -> None:
        with self._lock:
            self._in_flight.pop(call_name(lease), None)
