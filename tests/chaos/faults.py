"""Fault injection: apply each planned event to a suitable target, and record what was in flight at that moment."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tests.chaos.child import Child
from tests.chaos.options import ChaosOptions
from tests.chaos.pauses import Pauses
from tests.chaos.processes import Processes
from tests.chaos.schedule import Event, Fault
from tests.chaos.server_faults import ServerFaults
from tests.chaos.simulators import Simulators

# An event waits this long for a suitable target. Then it kills any worker.
PATIENCE_S = 20.0
# Share of all slots that must be in a call before a worker is killed, so that calls are interrupted.
MIN_BUSY = 0.2
# The simulator notices a killed client when the kernel closes its connections.
HEARD_AFTER_S = 0.1
MAX_RESTART_S = 1.0
TROUBLE_S = 2.0
# During a limit, fewer calls may be in flight than the workers have slots.
LIMIT_RETRY_AFTER_S = 0.3
# Share of the calls that get interim responses, and the time from these to the answer.
INTERIM_SHARE, INTERIM_LATE_S = 0.5, 0.3
_OUTAGES = {
    Fault.OUTAGE_500: "500",
    Fault.OUTAGE_503: "503",
    Fault.OUTAGE_DROP: "drop",
    Fault.OUTAGE_REFUSE: "refuse",
}
# They reset every connection, so calls in flight must be repeated.
_RESETS = (Fault.OUTAGE_DROP, Fault.OUTAGE_REFUSE)


class FaultInjector:
    """Injects one fault at a time. The scorecard reads `counts`, `in_flight`, `hit`, `crashed`, `mid_call_kills`."""

    def __init__(
        self,
        options: ChaosOptions,
        processes: Processes,
        simulators: Simulators,
        server: ServerFaults | None,
        pauses: Pauses | None,
        note: Callable[[str], None],
    ) -> None:
        self._record = note
        self._options = options
        self._processes = processes
        self._simulators = simulators
        self._server = server
        self._pauses = pauses
        self._waiting_since_s: dict[Event, float] = {}
        #: Changes of the simulators' configuration that end a limit or interim responses, and when they are due.
        self._restores: list[tuple[float, dict[str, Any]]] = []
        self.counts: Counter[Fault] = Counter()
        #: Upper bound of the calls in flight at these faults: those of the simulator, or one per slot of the victim.
        self.in_flight: Counter[Fault] = Counter()
        #: For each request: the faults during which it was in flight.
        self.hit: defaultdict[str, Counter[Fault]] = defaultdict(Counter)
        #: SIGKILLs of a worker after which the simulator saw interrupted calls.
        self.mid_call_kills = 0
        processes.waking = self._waking

    def tend(self) -> None:
        """End the faults whose time has passed."""
        now_s = time.monotonic()
        for due_s, changes in [each for each in self._restores if now_s >= each[0]]:
            self._restores.remove((due_s, changes))
            self._simulators.configure(**changes)
        if self._server is not None:
            if self._server.wakes:
                # Leases have expired meanwhile, and calls have ended.
                self._record("SIGCONT: server")
                with self.watch(Fault.STOP_SERVER):
                    self._server.wake()
            self._server.tend()

    def inject(self, event: Event, in_flight: int) -> bool:
        """Inject the event. Return False if there is no target yet. `in_flight` is the simulators' last count."""
        since_s = self._waiting_since_s.setdefault(event, time.monotonic())
        impatient = time.monotonic() - since_s > PATIENCE_S
        done = self._inject(event.fault, event.pick, in_flight, impatient)
        if not done and impatient:
            done = self._inject(Fault.KILL_WORKER, event.pick, in_flight, impatient)
        return done

    def _inject(self, fault: Fault, pick: float, in_flight: int, impatient: bool) -> bool:
        victim: Child | None = None
        match fault:
            case Fault.KILL_WORKER | Fault.TERM_WORKER | Fault.STOP_WORKER:
                busy = len(self._processes.workers) * self._options.concurrency * MIN_BUSY
                victim = self._victim(self._processes.workers, pick, started_up=not impatient)
                if victim is None or (in_flight < busy and not impatient):
                    return False
                self._hit_worker(fault, victim, pick)
            case Fault.KILL_PRODUCER:
                victim = self._victim(self._processes.producers, pick)
                if victim is None:
                    return False
                self._processes.kill(victim, pick * MAX_RESTART_S)
            case Fault.KILL_BATCH | Fault.TERM_BATCH | Fault.PAUSE:
                victim = self._victim(self._processes.current_batch, pick)
                if victim is None or not self._hit_batch(fault, victim, pick):
                    return False
            case Fault.OUTAGE_500 | Fault.OUTAGE_503 | Fault.OUTAGE_DROP | Fault.OUTAGE_REFUSE:
                self._begin_outage(fault, pick)
            case Fault.LIMIT:
                limit = max(1, self._options.slots // (2 * self._options.accounts))
                self._change_for_a_while(
                    {"concurrency": limit, "concurrency_retry_after_s": LIMIT_RETRY_AFTER_S},
                    {"concurrency": self._options.simulator.get("concurrency")},
                )
            case Fault.INTERIM:
                self._change_for_a_while(
                    {"faults": {"earlyhints": INTERIM_SHARE}, "hints_late_s": INTERIM_LATE_S},
                    {"faults": self._options.simulator.get("faults", {})},
                )
            case _:
                if not self._hit_server(fault, pick):
                    return False
        self.counts[fault] += 1
        self._record(f"{fault}{f': {victim.name}' if victim else ''}, {in_flight} calls in flight")
        return True

    def _victim(self, children: list[Child], pick: float, *, started_up: bool = False) -> Child | None:
        victims = self._processes.at_work(children, started_up=started_up)
        return victims[int(pick * len(victims))] if victims else None

    def _hit_worker(self, fault: Fault, victim: Child, pick: float) -> None:
        before = self._simulators.stats()
        if fault is Fault.TERM_WORKER:
            self._processes.term(victim)
            return
        self.in_flight[fault] += min(before["in_flight"], self._options.concurrency)
        with self.watch(fault):
            if fault is Fault.STOP_WORKER:
                self._processes.stop(victim, self._options.lease_s * (1.5 + pick))
                return
            self._processes.kill(victim, pick * MAX_RESTART_S)
        self.mid_call_kills += self._simulators.stats()["client_gone"] > before["client_gone"]

    def _hit_batch(self, fault: Fault, victim: Child, pick: float) -> bool:
        if self._pauses is not None and self._pauses.is_commanding:
            return False  # A batch whose process has exited cannot be paused.
        match fault:
            case Fault.KILL_BATCH:
                self._processes.kill(victim, pick * MAX_RESTART_S)
            case Fault.TERM_BATCH:
                self._processes.term(victim)
            case _:
                number = self._processes.batches.index(victim)
                return self._pauses is not None and self._pauses.begin(number, victim, TROUBLE_S * (1 + pick))
        return True

    def _hit_server(self, fault: Fault, pick: float) -> bool:
        server = self._server
        if server is None or not server.is_up:
            return False
        match fault:
            case Fault.KILL_CLIENTS:
                return server.kill_clients()
            case Fault.FLUSH_SCRIPTS:
                return server.flush_scripts()
            case Fault.LIMIT_MEMORY:
                return server.limit_memory(TROUBLE_S)
            case Fault.JUMP_CLOCK:
                return server.jump_clock(pick)
        in_flight = self._simulators.stats()["in_flight"]
        with self.watch(fault):
            done = server.kill() if fault is Fault.KILL_SERVER else server.stop(self._options.lease_s * (1.5 + pick))
        if done:
            self.in_flight[fault] += in_flight
        return done

    def _begin_outage(self, fault: Fault, pick: float) -> None:
        """Begin an outage of one account's API."""
        simulator = self._simulators.all[int(pick * 1000) % len(self._simulators.all)]
        if fault not in _RESETS:
            simulator.outage(TROUBLE_S, _OUTAGES[fault])
            return
        self.in_flight[fault] += simulator.stats()["in_flight"]
        with self.watch(fault):
            simulator.outage(TROUBLE_S, _OUTAGES[fault])

    def _change_for_a_while(self, changes: dict[str, Any], back: dict[str, Any]) -> None:
        self._simulators.configure(**changes)
        self._restores.append((time.monotonic() + TROUBLE_S, back))

    def _waking(self, child: Child) -> AbstractContextManager[None]:
        self._record(f"SIGCONT: {child.name}")
        return self.watch(Fault.STOP_WORKER)

    @contextmanager
    def watch(self, fault: Fault) -> Iterator[None]:
        """Record the requests in flight. The fault inside may cause each of them to be sent once more."""
        in_flight = self._simulators.recent()
        yield
        time.sleep(HEARD_AFTER_S)
        for content in in_flight | self._simulators.recent():
            self.hit[content][fault] += 1
