"""Fault injection: apply each planned event to a suitable process, and record what was in flight at that moment."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from mira_queue.ledger.embedded import EmbeddedServer
from tests.chaos.child import Child
from tests.chaos.options import ChaosOptions
from tests.chaos.processes import Processes
from tests.chaos.schedule import Event, Fault
from tests.support.simulator_process import SimulatorProcess

# An event waits this long for a suitable target. Then it kills any worker.
PATIENCE_S = 10.0
# Share of all slots that must be in a call before a worker is killed, so that calls are interrupted.
MIN_BUSY = 0.2
# The simulator notices a killed client when the kernel closes its connections.
HEARD_AFTER_S = 0.1
MAX_RESTART_S = 1.0
TROUBLE_S = 2.0
# During a limit, fewer calls may be in flight than the workers have slots.
LIMIT_RETRY_AFTER_S = 0.3


class FaultInjector:
    """Injects one fault at a time. The scorecard reads `counts`, `in_flight`, `hit`, and `mid_call_kills`."""

    def __init__(
        self,
        options: ChaosOptions,
        processes: Processes,
        simulator: SimulatorProcess,
        server: EmbeddedServer | None,
        note: Callable[[str], None],
    ) -> None:
        self._record = note
        self._options = options
        self._processes = processes
        self._simulator = simulator
        self._server = server
        self._waiting_since_s: float | None = None
        self._limit_ends_s: float | None = None
        self.counts: Counter[Fault] = Counter()
        #: Upper bound of the calls in flight at these faults: those of the simulator, or one per slot of the victim.
        self.in_flight: Counter[Fault] = Counter()
        #: For each request: the number of faults during which it was in flight.
        self.hit: Counter[str] = Counter()
        #: SIGKILLs of a worker after which the simulator saw interrupted calls.
        self.mid_call_kills = 0

    def tend(self) -> None:
        """Remove a limit whose time has passed."""
        if self._limit_ends_s is not None and time.monotonic() >= self._limit_ends_s:
            self._limit_ends_s = None
            self._simulator.configure(concurrency=self._options.simulator.get("concurrency"))

    def inject(self, event: Event, in_flight: int) -> bool:
        """Inject the event. Return False if there is no target yet. `in_flight` is the simulator's last count."""
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
        impatient = time.monotonic() - self._waiting_since_s > PATIENCE_S
        done = self._inject(event.fault, event.pick, in_flight, impatient)
        if not done and impatient:
            done = self._inject(Fault.KILL_WORKER, event.pick, in_flight, impatient)
        if done:
            self._waiting_since_s = None
        return done

    def _inject(self, fault: Fault, pick: float, in_flight: int, impatient: bool) -> bool:
        processes = self._processes
        victim: Child | None = None
        match fault:
            case Fault.KILL_WORKER | Fault.TERM_WORKER | Fault.STOP_WORKER:
                victims = processes.at_work(processes.workers, started_up=not impatient)
                busy = len(processes.workers) * self._options.concurrency * MIN_BUSY
                if not victims or (in_flight < busy and not impatient):
                    return False
                victim = victims[int(pick * len(victims))]
                self._hit_worker(fault, victim, pick)
            case Fault.KILL_PRODUCER:
                victims = processes.at_work(processes.producers, started_up=False)
                if not victims:
                    return False
                victim = victims[int(pick * len(victims))]
                processes.kill(victim, pick * MAX_RESTART_S)
            case Fault.KILL_BATCH | Fault.TERM_BATCH:
                victim = processes.batch
                if victim is None or not processes.at_work([victim], started_up=False):
                    return False
                if fault is Fault.KILL_BATCH:
                    processes.kill(victim, pick * MAX_RESTART_S)
                else:
                    processes.term(victim)
            case Fault.KILL_SERVER:
                with self.watch():
                    if not self._kill_server():
                        return False
            case Fault.OUTAGE:
                kind = ("503", "drop", "refuse")[int(pick * 3)]
                if kind != "503":
                    # The outage resets every connection, so calls in flight must be repeated.
                    self.in_flight[fault] += self._simulator.stats()["in_flight"]
                with self.watch() if kind != "503" else nullcontext():
                    self._simulator.outage(TROUBLE_S, kind)
            case Fault.LIMIT:
                limit = max(1, self._options.workers * self._options.concurrency // 2)
                self._simulator.configure(concurrency=limit, concurrency_retry_after_s=LIMIT_RETRY_AFTER_S)
                self._limit_ends_s = time.monotonic() + TROUBLE_S
        self.counts[fault] += 1
        self._record(f"{fault}{f': {victim.name}' if victim else ''}, {in_flight} calls in flight")
        return True

    def _hit_worker(self, fault: Fault, victim: Child, pick: float) -> None:
        before = self._simulator.stats()
        if fault is Fault.TERM_WORKER:
            self._processes.term(victim)
            return
        self.in_flight[fault] += min(before["in_flight"], self._options.concurrency)
        with self.watch():
            if fault is Fault.STOP_WORKER:
                self._processes.stop(victim, self._options.lease_s * (1.5 + pick))
                return
            self._processes.kill(victim, pick * MAX_RESTART_S)
        self.mid_call_kills += self._simulator.stats()["client_gone"] > before["client_gone"]

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Record the requests in flight. The fault inside may cause each of them to be sent once more."""
        in_flight = set(self._simulator.recent())
        yield
        time.sleep(HEARD_AFTER_S)
        self.hit.update(in_flight.union(self._simulator.recent()))

    def _kill_server(self) -> bool:
        pid = self._server.running_pid() if self._server else None
        if pid is None:
            return False
        self.in_flight[Fault.KILL_SERVER] += self._simulator.stats()["in_flight"]
        os.kill(pid, signal.SIGKILL)
        return True
