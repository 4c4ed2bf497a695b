"""The line of one worker process: its jobs wait in it for permits, and the first one requests permits for all."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice

from mira_queue.contract import names
from mira_queue.contract.call_times import CallTimes
from mira_queue.contract.pace import ConfiguredLimits, PaceState, Permit, Reason, ReleasedPermit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease
from mira_worker.pacing import tokens

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


@dataclass(frozen=True, slots=True)
class HeldPermit:
    """Permission to make one call of a job.

    `waited_ms` is how long the job waited for it, and `waited_for` the last reason.
    """

    lease: Lease
    permit: Permit
    tokens: int = 0
    waited_ms: int = 0
    waited_for: Reason = ""

    def times(self, duration_ms: int | None) -> CallTimes:
        """Return the times of the call, whose response took so long."""
        return CallTimes(duration_ms, self.waited_ms)


class _Place:
    """Place of a job in the process's line."""

    __slots__ = ("expires_s", "lease", "makes_room", "permit", "permit_s", "reason", "stir", "tokens")

    def __init__(self, lease: Lease, estimate: int) -> None:
        self.lease = lease
        self.tokens = estimate
        self.permit: Permit | None = None
        self.permit_s = 0.0
        self.reason: Reason = ""
        self.makes_room = False
        self.stir = threading.Event()
        left = lease.time_left
        self.expires_s = math.inf if left is None else time.monotonic() + left.total_seconds()


class WaitingLine:
    """Line of the jobs of one account that wait in this process, and the permits of its calls in flight.

    `wait_ms` returns when to ask again in a state of the account. `stopping` ends every wait immediately.
    """

    def __init__(
        self,
        ledger: Ledger,
        account: str,
        configured: ConfiguredLimits,
        wait_ms: Callable[[PaceState], int],
        *,
        probe_lease: timedelta,
        stopping: threading.Event,
        single_jobs: bool,
    ) -> None:
        self.process = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._ledger = ledger
        self._account = account
        self._configured = configured
        self._wait_ms = wait_ms
        self._probe_lease = probe_lease
        self._weight = SINGLE_JOBS_WEIGHT if single_jobs else 1.0
        self._stopping = stopping
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._line: deque[_Place] = deque()
        # Jobs with a low priority in line.
        self._low = 0
        self._released: list[ReleasedPermit] = []
        self._in_flight: dict[str, Lease] = {}

    def acquire(self, lease: Lease) -> HeldPermit:
        """Block until a call may start, or must not start. If the worker stops, the verdict stays "wait"."""
        began_s = time.monotonic()
        while True:
            place = self._wait_in_line(lease)
            if place.permit is None:
                return HeldPermit(lease, Permit("wait"), place.tokens)
            permit = self._confirmed(lease, place.permit, place.permit_s)
            if permit.verdict != "wait":
                waited_ms = round((time.monotonic() - began_s) * 1000)
                return HeldPermit(lease, permit, place.tokens, waited_ms, place.reason)

    def release(self, released: ReleasedPermit) -> None:
        """Release a permit with the next request or the next tick."""
        with self._lock:
            self._released.append(released)

    def forget(self, lease: Lease) -> None:
        """Do not renew the permit of a call that has ended."""
        with self._lock:
            self._in_flight.pop(call_name(lease), None)

    def stir(self) -> None:
        """Make the first job in line request permits again, because something has changed."""
        with self._lock:
            if self._line:
                self._line[0].stir.set()

    @property
    def has_low(self) -> bool:
        """Return True if a job with a low priority waits."""
        return self._low > 0

    def yield_low(self) -> int:
        """End the waits of jobs with a low priority, with the verdict "wait". Return how many that were."""
        with self._lock:
            low = [place for place in self._line if place.lease.is_low and place.permit is None]
            for place in low:
                place.makes_room = True
                place.stir.set()
        return len(low)

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
            self._ledger.renew_permits(self._account, calls, CALL_LEASE)

    def _confirmed(self, lease: Lease, permit: Permit, since_s: float) -> Permit:
        """Return the permit, which is from `since_s`; or, if its call was held up, the verdict that has replaced it."""
        fresh_s, quickest_s = STALE_S, math.inf
        while permit.may_start and time.monotonic() - since_s > fresh_s:
            since_s = time.monotonic()
            permit = self._ledger.confirm_permit(self._account, lease, permit)
            # A distant server never responds sooner: without this, no call would ever start.
            if quickest_s < math.inf:
                fresh_s = max(STALE_S, 2 * quickest_s)
            quickest_s = min(quickest_s, time.monotonic() - since_s)
        if not permit.may_start:
            self.forget(lease)
        return permit

    def _wait_in_line(self, lease: Lease) -> _Place:
        place = _Place(lease, tokens.estimated(lease.body) if self._configured.tokens else 0)
        with self._lock:
            self._line.append(place)
            self._low += lease.is_low
            is_first = self._line[0] is place
            if place.expires_s < math.inf:
                # The first job may sleep for longer than this one has time.
                self._line[0].stir.set()
        try:
            while place.permit is None and not place.makes_room and not self._stopping.is_set():
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

    def _ask(self) -> float:
        """Request permits for all waiting jobs in one round trip. Return the seconds that the first one should wait."""
        with self._asking:
            with self._lock:
                # Sorting keeps the order of jobs with the same priority.
                line = sorted(self._line, key=lambda place: place.lease.is_low) if self._low else self._line
                asking = list(islice(line, MAX_JOBS_PER_REQUEST))
                released, self._released = self._released, []
            state, permits = self._ledger.acquire_permits(
                self._account,
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
                        place.reason = state.reason
                        continue
                    if permit.may_start:
                        self._in_flight[call_name(place.lease)] = place.lease
                    place.permit, place.permit_s = permit, now_s
                    place.stir.set()
        return self._wait_ms(state) / 1000

    def _leave(self, place: _Place) -> None:
        with self._lock:
            self._line.remove(place)
            self._low -= place.lease.is_low
            if self._line:
                self._line[0].stir.set()
