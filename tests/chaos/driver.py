"""One chaos run: start the processes, inject the planned faults, wait until all jobs are finished, and count."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import redis

from mira_queue.ledger.embedded import EmbeddedServer, find_binary
from mira_queue.simulator.state import account_name
from tests.chaos import schedule, workload
from tests.chaos.faults import FaultInjector
from tests.chaos.folder import run_folder
from tests.chaos.journal import JournalReader
from tests.chaos.liveness import count_working_slots
from tests.chaos.options import ChaosOptions
from tests.chaos.pauses import Pauses
from tests.chaos.processes import Processes
from tests.chaos.report import report
from tests.chaos.result_monitor import ResultMonitor, client_url
from tests.chaos.scorecard import Measure, Score
from tests.chaos.server_clock import ServerClock, find_compiler
from tests.chaos.server_faults import ServerFaults
from tests.chaos.simulators import Simulators, started
from tests.chaos.system import MiraQueueSystem, System

TICK_S = 0.05
POLL_EVERY_S = 0.25
REPORT_EVERY_S = 10.0
# Minimum time between faults: a process that is killed while it starts proves nothing.
FAULT_EVERY_S = 1.0
SERVER_CHECK_S = 1.0
# Every recovery of ours is faster: an expired lease, a lost message, the start of a worker on a busy machine.
STUCK_S = 120.0

Say = Callable[[str], None]


class NotEmpty(RuntimeError):
    """Raised if the user's server is not empty."""


def run_chaos(options: ChaosOptions, system: System, say: Say, keep: Path | None = None) -> Score:
    """Run once and return the scorecard. `keep` is a directory for the files; None uses a temporary directory."""
    with run_folder(keep) as folder, _server(options, folder) as (server, clock, url):
        latency = list(options.answer_takes_s)
        config = {"latency_s": latency, "seed": options.seed, "early_grace_s": 1.0, **options.simulator}
        with started(options.accounts, **config) as simulators:
            env = system.environment(options, url, folder, simulators.urls)
            env |= clock.environment if clock is not None else {}
            processes = Processes(options, system, env, folder)
            return _Run(options, system, say, simulators, processes, server, clock, url, env, folder).run()


class _Run:
    def __init__(
        self,
        options: ChaosOptions,
        system: System,
        say: Say,
        simulators: Simulators,
        processes: Processes,
        server: EmbeddedServer | None,
        clock: ServerClock | None,
        url: str,
        env: dict[str, str],
        folder: Path,
    ) -> None:
        self._options, self._system, self._say, self._simulators = options, system, say, simulators
        self._processes, self._server, self._env, self._folder = processes, server, env, folder
        is_ours = isinstance(system, MiraQueueSystem)
        self._server_faults = ServerFaults(server, clock) if server is not None else None
        self._pauses = Pauses(url, env, folder, self._record) if is_ours and options.batch_lines else None
        self._injector = FaultInjector(options, processes, simulators, self._server_faults, self._pauses, self._record)
        self._monitor = ResultMonitor(url)
        self._journals = [JournalReader(processes.journal(number)) for number in range(options.producers)]
        self._accepted: dict[int, set[str]] = defaultdict(set)
        without: frozenset[schedule.Fault] = frozenset()
        without |= schedule.SERVER_FAULTS if server is None else frozenset()
        without |= {schedule.Fault.JUMP_CLOCK} if clock is None else frozenset()
        without |= frozenset() if options.batch_lines else schedule.BATCH_FAULTS
        without |= frozenset() if is_ours else {schedule.Fault.PAUSE}
        self._events = schedule.plan(options.seed, options.faults, without=without)
        self._all_answers = sum(workload.job(options.seed, number).succeeds for number in range(options.jobs))
        self._stats: dict[str, int] = simulators.stats()
        self._due_s: dict[str, float] = defaultdict(float)
        more_s = 0.0 if is_ours or options.minutes else options.stock_patience_s
        self._limit_s = options.limit_s + more_s

    def run(self) -> Score:
        began_s = time.monotonic()
        settled = False
        self._monitor.start()
        try:
            self._processes.start()
            while time.monotonic() - began_s < self._limit_s:
                self._tick(began_s)
                settled = self._is_settled()
                if settled or self._is_hopeless():
                    break
                time.sleep(TICK_S)
            seconds = time.monotonic() - began_s
            return self._conclude(settled, seconds)
        finally:
            if self._server_faults is not None:
                self._server_faults.end()
            self._monitor.stop()
            self._processes.end()

    def _record(self, text: str) -> None:
        """Write when each fault was injected, with the wall clock that the workers' logs use."""
        with (self._folder / "faults.txt").open("a") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {text}\n")

    def _tick(self, began_s: float) -> None:
        self._processes.start_batches(self._share_done())
        self._processes.tend()
        self._injector.tend()
        if self._is_time("server", SERVER_CHECK_S):
            self._restart_server()
        if self._is_time("look", POLL_EVERY_S):
            self._stats = self._simulators.stats()
            self._read_journals()
        if self._is_time("say", REPORT_EVERY_S):
            self._say(self._progress(time.monotonic() - began_s))
            self._record(f"{self._stats['answered']} answered, {self._stats['in_flight']} in flight")
        if time.monotonic() >= self._due_s["fault"]:
            self._inject_fault()

    def _inject_fault(self) -> None:
        """Inject the first planned fault that is due and finds a target."""
        share_done = self._share_done()
        for event in [each for each in self._events if each.at <= share_done]:
            if self._injector.inject(event, self._stats["in_flight"]):
                self._events.remove(event)
                self._due_s["fault"] = time.monotonic() + FAULT_EVERY_S
                return

    def _is_time(self, what: str, every_s: float) -> bool:
        now_s = time.monotonic()
        if now_s < self._due_s[what]:
            return False
        self._due_s[what] = now_s + every_s
        return True

    def _restart_server(self) -> None:
        # Our workers restart the server, and the run tests that. Stock Celery has no part that would.
        if self._server is not None and not self._is_server_stopped and not isinstance(self._system, MiraQueueSystem):
            self._server.ensure_running()

    @property
    def _is_server_stopped(self) -> bool:
        return self._server_faults is not None and self._server_faults.is_stopped

    def _read_journals(self) -> None:
        for journal in self._journals:
            for number, job_id in journal.new():
                self._accepted[number].add(job_id)
                self._monitor.accepted([job_id])

    def _share_done(self) -> float:
        return float(self._stats["answered"]) / max(1, self._all_answers)

    def _is_settled(self) -> bool:
        if not self._processes.has_submitted_all or self._stats["in_flight"]:
            return False
        self._read_journals()
        return self._monitor.pending == 0

    def _is_hopeless(self) -> bool:
        """Return True if no outcome was stored for longer than any recovery takes. Missing outcomes are lost then."""
        patience_s = STUCK_S if isinstance(self._system, MiraQueueSystem) else self._options.stock_patience_s
        return time.monotonic() - self._monitor.last_result_s > patience_s

    def _conclude(self, settled: bool, seconds: float) -> Score:
        self._say(self._progress(seconds))
        self._processes.wake_all()
        if self._server_faults is not None:
            self._server_faults.wake()
        if self._pauses is not None:
            self._pauses.join()
        if self._server is not None:
            self._server.ensure_running()
        score = report(
            self._options,
            self._system,
            self._accepted,
            self._monitor,
            self._simulators,
            self._processes,
            self._injector,
            self._pauses,
            [account_name(key) for key in self._system.keys[: self._options.accounts]],
            settled=settled,
            seconds=seconds,
        )
        working = count_working_slots(
            self._options, self._system, self._env, self._folder, self._processes, self._simulators
        )
        score = score.plus(Measure("planned faults that were not reached", len(self._events)))
        return score.plus(Measure("slots that no longer take jobs", self._options.slots - working, 0))

    def _progress(self, seconds: float) -> str:
        return (
            f"{self._system.name} {seconds:5.0f} s: accepted {len(self._accepted):,}, "
            f"answers {self._stats['answered']:,} of {self._all_answers:,}, "
            f"without outcome {self._monitor.pending:,}, "
            f"faults {self._injector.counts.total()} of {self._options.faults}"
        )


@contextmanager
def _server(options: ChaosOptions, folder: Path) -> Iterator[tuple[EmbeddedServer | None, ServerClock | None, str]]:
    """Open the user's server, or an embedded one. The driver keeps it running while all other processes are killed."""
    if options.redis_url is None:
        # Without a compiler, the clock stays as it is.
        clock = ServerClock(folder / "clock") if find_compiler() else None
        server = EmbeddedServer(folder / "state", find_binary=clock.find_binary if clock else find_binary)
        with server as url:
            yield server, clock, url
        return
    with redis.Redis.from_url(client_url(options.redis_url)) as client:
        if count := client.dbsize():
            raise NotEmpty(f"the server holds {count} keys: the chaos run needs an empty server")
        try:
            yield None, None, options.redis_url
        finally:
            client.flushdb()
