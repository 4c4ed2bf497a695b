"""The pacer as one worker process has it: its jobs wait in one line, of which the first asks for all."""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import JobError
from mira_queue.contract.pace import ConfiguredLimits, Permit, ReleasedPermit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease
from mira_worker.pacing import breaker, policy, tokens
from mira_worker.pacing.learner import Learner

# A call is kept in flight three times as often as its lease ends; a killed process's places are free after it.
CALL_LEASE = timedelta(seconds=4)
# Where only an answer can free a place, and other processes' answers are announced: the wait if one is not heard.
ASK_AGAIN = timedelta(milliseconds=250)
# A wait is slept in pieces no longer than this, so that a gate that was opened by hand is noticed.
LONGEST_SLEEP_S = 30.0
# A call that has not left so long after it was let go (a stopped process, a full machine) looks whether the gate is
# closed by now.
STALE_S = 0.05
# Jobs for which one ask may speak.
MAX_JOBS_PER_REQUEST = 32
# Where the account is full, a process that does single jobs alone comes in before the others, and while its jobs do not
# end has four turns for one of theirs: it passes files, and does not stop them.
SINGLE_COUNTS = 1 / 4
# The server counts from when it sent its answer, which is earlier than we do. This covers the clocks' grain, and that
# over a long wait one of them may be the faster.
GATE_MARGIN, GATE_MARGIN_SHARE = timedelta(milliseconds=10), 0.001

MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave to make one call."""

    lease: Lease
    permit: Permit
    tokens: int = 0


def with_gate_margin(wait: timedelta) -> timedelta:
    """A Retry-After, kept to by our clock."""
    return wait + GATE_MARGIN + wait * GATE_MARGIN_SHARE


class _Place:
    """A job's place in the process's line."""

    __slots__ = ("lease", "permit", "permit_s", "stir", "tokens")

    def __init__(self, lease: Lease, estimate: int) -> None:
        self.lease = lease
        self.tokens = estimate
        self.permit: Permit | None = None
        self.permit_s = 0.0
        self.stir = threading.Event()


class Pacer:
    """One account's pacer. `stopping` ends every wait at once; `tick` is called often, by the courier.

    `single_jobs`: the process does nothing else, and has more turns for it.
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
        self._configured = policy.with_margin(configured)
        self._probe_lease = probe_lease
        self._weight = SINGLE_COUNTS if single_jobs else 1.0
        self._stopping = stopping
        self._log = log.bind(account=account)
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._line: deque[_Place] = deque()
        self._released: list[ReleasedPermit] = []
        self._out: dict[str, Lease] = {}
        self._learner = Learner(ledger, account, self._configured, self._log)

    def wait_for_pass(self, lease: Lease) -> Pass | None:
        """Block until a call may leave. None: the worker stops, or the lease was lost; make no call."""
        while True:
            place = self._wait_in_line(lease)
            if place.permit is None or place.permit.verdict == "lost":
                return None
            if self._may_still_go(place):
                return Pass(lease, place.permit, place.tokens)
            self.gave_up(lease)

    def _may_still_go(self, place: _Place) -> bool:
        since_s, fresh_s, quickest_s = place.permit_s, STALE_S, math.inf
        while time.monotonic() - since_s > fresh_s:
            since_s = time.monotonic()
            if not self._ledger.may_still_start(self.account, call_name(place.lease)):
                return False
            # A server that is far away never answers sooner: without this, no call would ever leave.
            if quickest_s < math.inf:
                fresh_s = max(STALE_S, 2 * quickest_s)
            quickest_s = min(quickest_s, time.monotonic() - since_s)
        return True

    def _wait_in_line(self, lease: Lease) -> _Place:
        place = _Place(lease, tokens.estimated(lease.body) if self._configured.tokens else 0)
        with self._lock:
            self._line.append(place)
            is_first = self._line[0] is place
        try:
            while place.permit is None and not self._stopping.is_set():
                if not is_first:
                    place.stir.wait()
                    place.stir.clear()
                    is_first = self._line[0] is place
                    continue
                wait_s = self._ask()
                if wait_s > 0 and place.permit is None:
                    place.stir.wait(min(wait_s, LONGEST_SLEEP_S))
                    place.stir.clear()
        finally:
            self._leave(place)
            if place.permit is None:
                # An ask that is under way may still bring one; its place must not be lost.
                with self._asking:
                    pass
        return place

    def answered(self, leave: Pass, used_tokens: int, room: tuple[int, timedelta] | None) -> None:
        """A call came back, and not with a refusal: its place is free with the next ask, or the next tick."""
        call = call_name(leave.lease)
        left, reset = room or (None, timedelta(0))
        released = ReleasedPermit(
            call, leave.permit, used_tokens - leave.tokens if leave.tokens else 0, left, round(reset / MILLISECOND)
        )
        if leave.permit.verdict == "probe":
            self._forget_call(call)
            if self._ledger.release_permits(self.account, [released]):
                self._log.info("gate_opened")
            self.stir()
            return
        with self._lock:
            self._released.append(released)
            self._out.pop(call, None)
        self.stir()

    def refused(self, leave: Pass, wait: timedelta) -> None:
        """The API said to wait: so does everybody who uses this account, and it is learned from."""
        closed = self._ledger.open_breaker(self.account, with_gate_margin(wait))
        self._log.warning("gate_closed", reason="limit", wait_s=round(closed.total_seconds(), 3))
        call = call_name(leave.lease)
        self._forget_call(call)
        self._learner.learn(call, leave.permit, wait)
        self.stir()

    def faulted(self, leave: Pass, fault: JobError) -> bool:
        """The call met a fault. True: the job is charged with it; False: it was sent to test the service."""
        self._forget_call(call_name(leave.lease))
        if breaker.is_sick(leave.lease.attempts):
            self.caller_gone(leave.lease.job_id, leave.lease.epoch)
            self.stir()
            return True
        row = self._ledger.record_fault(self.account, leave.lease, leave.permit)
        if row.closed_breaker:
            self._log.info("gate_opened")
        pause = breaker.pause(row)
        if pause is not None:
            closed = self._ledger.open_breaker(self.account, pause, "faults")
            self._log.warning(
                "gate_closed", reason="faults", wait_s=round(closed.total_seconds(), 3), in_a_row=row.jobs
            )
        self.stir()
        return breaker.is_charged(row, fault)

    def gave_up(self, lease: Lease) -> None:
        """A call that was let go will not be heard of: its place must not stay taken as long as this process lives."""
        self._forget_call(call_name(lease))
        self.caller_gone(lease.job_id, lease.epoch)

    def caller_gone(self, job_id: str, epoch: int | None = None) -> None:
        """This job's call will bring no answer; if it was the probe, the next call is."""
        if self._ledger.abandon_permit(self.account, job_id, epoch):
            self._log.info("probe_lost", job_id=job_id)

    def stir(self) -> None:
        """Something has changed: whoever is first in line asks again."""
        with self._lock:
            if self._line:
                self._line[0].stir.set()

    def stop(self) -> None:
        """Every wait ends; `stopping` is set already."""
        with self._lock:
            for place in self._line:
                place.stir.set()

    def tick(self) -> None:
        """Bring back what no ask has carried: others may wait for its place."""
        with self._lock:
            idle = not self._line and self._released
        if idle:
            self._ask()

    def renew_permits(self) -> None:
        """Calls that are out stay counted; they are not, any more, when this process is gone."""
        with self._lock:
            out = list(self._out)
        if out:
            self._ledger.renew_permits(self.account, out, CALL_LEASE)

    def _ask(self) -> float:
        """One round trip for all who wait; returns how long the first of them should wait, in seconds."""
        with self._asking:
            with self._lock:
                asking = [self._line[index] for index in range(min(MAX_JOBS_PER_REQUEST, len(self._line)))]
                released, self._released = self._released, []
            pace, permits = self._ledger.acquire_permits(
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
                    if permit.verdict != "lost":
                        self._out[call_name(place.lease)] = place.lease
                    place.permit, place.permit_s = permit, now_s
                    place.stir.set()
        if self._learner.grow(pace):
            return 0.0
        return pace.wait_ms / 1000

    def _leave(self, place: _Place) -> None:
        with self._lock:
            self._line.remove(place)
            if self._line:
                self._line[0].stir.set()

    def _forget_call(self, call: str) -> None:
        with self._lock:
            self._out.pop(call, None)
