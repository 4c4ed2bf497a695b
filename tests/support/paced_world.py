"""A world with a clock of its own, for the pacer: real scripts on a real server, the policy, and a simulated API.

Days pass in seconds. Only the threads of `mira_worker.pacing.pacer` are left out: here a process is a line of jobs.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from mira_worker.pacing import growth
from mira_worker.pacing.headers import room_left
from mira_worker.pacing.learner import Learner
from mira_worker.pacing.pacer import with_wait_margin
from mira_worker.pacing.waiting_line import ASK_AGAIN
from mira_worker.retry_after import wait_after_limit

from mira_queue.contract.pace import ConfiguredLimits, PaceState, Permit, ReleasedPermit
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.pace import call_name
from mira_queue.ledger.records import Lease
from mira_queue.simulator import wait_headers
from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.limits import AccountLimits, RetryAfterLog
from tests.support.ledger_steps import running

ACCOUNT = "an-account"
LEASE = timedelta(hours=1)
# Simulated time begins somewhere: the scripts take 0 for "never".
START_MS = 1_000_000_000_000
# Mira's 5 s, scaled like its window of 6 s. A configuration that sets another wait keeps it.
FLIGHT_RETRY_AFTER_S = 0.5
MILLISECOND = timedelta(milliseconds=1)


@dataclass
class Process:
    """A worker process: its jobs, which of them wait, and what it has learned."""

    name: str
    learner: Learner
    idle: list[Lease]
    released: list[ReleasedPermit] = field(default_factory=list)
    sent: int = 0
    next_ask_ms: float = 0


@dataclass
class World:
    """`calls` is (ms since the start, whether it was accepted) of each call that reached the API.

    `left_ms` is when the slot of each of them became free, in the same order: None for a rate-limited call.
    The jobs have the models of `models` in turn, and each call has `call_tokens` for the API's token limit.
    """

    ledger: Ledger
    config: SimulatorConfig
    configured: ConfiguredLimits = field(default_factory=ConfiguredLimits)
    processes: int = 1
    slots: int = 20
    travel_s: tuple[float, float] = (0.001, 0.004)
    seed: int = 1
    models: tuple[str, ...] = ("mira",)
    call_tokens: int = 0
    open_jobs: int = 1_000_000
    start_ms: int = START_MS

    def __post_init__(self) -> None:
        if "concurrency_retry_after_s" not in self.config.model_fields_set:
            self.configure(concurrency_retry_after_s=FLIGHT_RETRY_AFTER_S)
        configured = growth.with_margin(self.configured)
        self._configured = configured
        log = structlog.get_logger("test").bind()
        self.fleet = [
            Process(
                f"process-{number}",
                Learner(self.ledger, ACCOUNT, configured, log, lambda: self.open_jobs),
                [running(self.ledger, lease=LEASE) for _ in range(self.slots)],
            )
            for number in range(self.processes)
        ]
        models = itertools.cycle(self.models)
        self._models = {lease.job_id: next(models) for process in self.fleet for lease in process.idle}
        self.now_ms = float(self.start_ms)
        self.limits, self.retry_afters = AccountLimits(), RetryAfterLog()
        self.calls: list[tuple[float, bool]] = []
        self.left_ms: list[float | None] = []
        self.early = 0
        self.most_in_flight = 0
        self.last_pace: PaceState | None = None
        self._random = random.Random(self.seed)
        self._order = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for process in self.fleet:
            self._ask_soon(process, 0)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        end_ms = self.now_ms + seconds * 1000
        while self._events and self._events[0][0] <= end_ms:
            self.now_ms, _, happen = heapq.heappop(self._events)
            happen()
        self.now_ms = end_ms

    def configure(self, **changes: object) -> None:
        """The API changes its limits."""
        self.config = self.config.model_copy(update=changes)

    def accepted(self, since_s: float = 0) -> int:
        """Calls that were accepted from then on."""
        return sum(good for at_ms, good in self.calls if at_ms >= since_s * 1000)

    def refused(self, since_s: float = 0) -> int:
        return sum(not good for at_ms, good in self.calls if at_ms >= since_s * 1000)

    @property
    def answered(self) -> int:
        """Calls whose slot is free again."""
        return sum(left_ms is not None for left_ms in self.left_ms)

    @property
    def elapsed_s(self) -> float:
        return (self.now_ms - self.start_ms) / 1000

    def _at(self, delay_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_s * 1000, next(self._order), happen))

    def _travel(self) -> float:
        return self._random.uniform(*self.travel_s)

    def _ask_soon(self, process: Process, delay_s: float) -> None:
        due_ms = self.now_ms + delay_s * 1000
        process.next_ask_ms = due_ms
        self._at(delay_s, lambda: self._ask(process) if process.next_ask_ms == due_ms else None)

    def _ask(self, process: Process) -> None:
        asking, released = process.idle[:32], process.released
        process.released = []
        pace, permits = self.ledger.acquire_permits(
            ACCOUNT,
            process.name,
            [(lease, 0) for lease in asking],
            released,
            configured=self._configured,
            call_lease=LEASE,
            probe_lease=LEASE,
            ask_again=ASK_AGAIN,
            now_ms=int(self.now_ms),
        )
        self.last_pace = pace
        for lease, permit in zip(asking, permits, strict=True):
            if permit.verdict in ("go", "probe"):
                process.idle.remove(lease)
                process.sent += 1
                self._leave(process, lease, permit)
        if pace.reason:
            self._ask_soon(process, process.learner.wait_ms(pace) / 1000)

    def _leave(self, process: Process, lease: Lease, permit: Permit) -> None:
        self._at(self._travel(), lambda: self._arrive(process, lease, permit))

    def _arrive(self, process: Process, lease: Lease, permit: Permit) -> None:
        now_s = self.now_ms / 1000
        if self.retry_afters.check(now_s, 2 * self.travel_s[1]) == "early":
            self.early += 1
        model = self._models[lease.job_id]
        verdict = self.limits.admit(self.config, now_s, self.call_tokens, model)
        is_rejected = verdict.limit is not None
        number = len(self.calls)
        self.calls.append((self.now_ms - self.start_ms, not is_rejected))
        self.left_ms.append(None)
        headers = self._rate_headers(model, now_s, is_rejected=is_rejected)
        if is_rejected:
            stated, promised_s = wait_headers.retry_after(verdict.wait_s, self.config.retry_after_form, now_s)
            if promised_s is not None:
                self.retry_afters.add(now_s, promised_s)
            self._at(self._travel(), lambda: self._refused(process, lease, permit, headers | _lower(stated)))
            return
        self.most_in_flight = max(self.most_in_flight, self.limits.in_flight)
        answered_s = verdict.delay_s + self._random.uniform(*self.config.latency_s)
        self._at(answered_s, lambda: self._answer(process, lease, permit, headers, number))

    def _rate_headers(self, model: str, now_s: float, *, is_rejected: bool) -> dict[str, str]:
        if self.config.rate_headers_on == "429" and not is_rejected:
            return {}
        standings = self.limits.standings(self.config, now_s, model)
        return _lower(wait_headers.rate_headers(standings, self.config.rate_headers, now_s))

    def _answer(self, process: Process, lease: Lease, permit: Permit, headers: Mapping[str, str], number: int) -> None:
        self.left_ms[number] = self.now_ms - self.start_ms
        self.limits.release(self._models[lease.job_id])
        self._at(self._travel(), lambda: self._land(process, lease, permit, headers))

    def _land(self, process: Process, lease: Lease, permit: Permit, headers: Mapping[str, str]) -> None:
        room = room_left(headers, self._date)
        left, reset_ms = (room.remaining, round(room.reset / MILLISECOND)) if room else (None, 0)
        process.released.append(ReleasedPermit(call_name(lease), permit, 0, left, reset_ms))
        process.idle.append(lease)
        self._everybody_asks()

    def _refused(self, process: Process, lease: Lease, permit: Permit, headers: Mapping[str, str]) -> None:
        wait = wait_after_limit(headers, (), self._date).wait
        self.ledger.open_breaker(ACCOUNT, with_wait_margin(wait), now_ms=int(self.now_ms))
        longer = process.learner.learn(call_name(lease), permit, wait, now_ms=int(self.now_ms))
        self.ledger.open_breaker(ACCOUNT, with_wait_margin(longer), now_ms=int(self.now_ms))
        self._at(wait.total_seconds(), lambda: process.idle.append(lease))
        self._everybody_asks()

    @property
    def _date(self) -> datetime:
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    def _everybody_asks(self) -> None:
        for process in self.fleet:
            self._ask_soon(process, 0)


def _lower(headers: Mapping[str, str]) -> dict[str, str]:
    """Return headers as the transport has them."""
    return {name.lower(): text for name, text in headers.items()}
