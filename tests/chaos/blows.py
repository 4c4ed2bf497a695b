"""Strikes: each event of the plan, done to whoever can be hit, and what was in flight at that moment."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

from mira_queue.ledger.embedded import EmbeddedServer
from tests.chaos.cast import Cast
from tests.chaos.child import Child
from tests.chaos.options import ChaosOptions
from tests.chaos.schedule import Blow, Event
from tests.support.simulator_process import SimulatorProcess

# An event that finds nobody to hit waits so long for somebody, and then hits a worker, whatever it does.
PATIENCE_S = 10.0
# Share of all slots that must be in a call before a worker is hit: so that it is hit in the middle of calls.
LEAST_BUSY = 0.2
# The simulator hears of a dead client when the kernel closes its connections.
HEARD_AFTER_S = 0.1
LONGEST_RESTART_S = 1.0
TROUBLE_S = 2.0
# While it lasts, fewer calls may be in flight than the workers would make.
LIMIT_RETRY_AFTER_S = 0.3


class Striker:
    """Does one event at a time; `counts` and `in_flight` are what the scorecard needs of them."""

    def __init__(
        self,
        options: ChaosOptions,
        cast: Cast,
        simulator: SimulatorProcess,
        server: EmbeddedServer | None,
        note: Callable[[str], None],
    ) -> None:
        self._note = note
        self._options = options
        self._cast = cast
        self._simulator = simulator
        self._server = server
        self._waiting_since_s: float | None = None
        self._limit_ends_s: float | None = None
        self.counts: Counter[Blow] = Counter()
        #: Calls in flight at these blows, an upper bound: all that the simulator had, or all that the victim can make.
        self.in_flight: Counter[Blow] = Counter()
        #: For each request, at how many of these blows it was under way.
        self.hit: Counter[str] = Counter()
        #: SIGKILLs of a worker after which the simulator saw calls break off.
        self.mid_call_kills = 0

    def tend(self) -> None:
        """End a limit whose time is over."""
        if self._limit_ends_s is not None and time.monotonic() >= self._limit_ends_s:
            self._limit_ends_s = None
            self._simulator.configure(concurrency=self._options.simulator.get("concurrency"))

    def strike(self, event: Event, in_flight: int) -> bool:
        """False: nobody could be hit yet, ask again. `in_flight`: calls that the simulator had open a moment ago."""
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
        impatient = time.monotonic() - self._waiting_since_s > PATIENCE_S
        done = self._strike(event.blow, event.pick, in_flight, impatient)
        if not done and impatient:
            done = self._strike(Blow.KILL_WORKER, event.pick, in_flight, impatient)
        if done:
            self._waiting_since_s = None
        return done

    def _strike(self, blow: Blow, pick: float, in_flight: int, impatient: bool) -> bool:
        cast = self._cast
        victim: Child | None = None
        match blow:
            case Blow.KILL_WORKER | Blow.TERM_WORKER | Blow.STOP_WORKER:
                victims = cast.at_work(cast.workers, grown_up=not impatient)
                busy = len(cast.workers) * self._options.concurrency * LEAST_BUSY
                if not victims or (in_flight < busy and not impatient):
                    return False
                victim = victims[int(pick * len(victims))]
                self._hit_worker(blow, victim, pick)
            case Blow.KILL_PRODUCER:
                victims = cast.at_work(cast.producers, grown_up=False)
                if not victims:
                    return False
                victim = victims[int(pick * len(victims))]
                cast.kill(victim, pick * LONGEST_RESTART_S)
            case Blow.KILL_BATCH | Blow.TERM_BATCH:
                victim = cast.batch
                if victim is None or not cast.at_work([victim], grown_up=False):
                    return False
                if blow is Blow.KILL_BATCH:
                    cast.kill(victim, pick * LONGEST_RESTART_S)
                else:
                    cast.term(victim)
            case Blow.KILL_SERVER:
                with self.watch():
                    if not self._kill_server():
                        return False
            case Blow.OUTAGE:
                kind = ("503", "drop", "refuse")[int(pick * 3)]
                if kind != "503":
                    # It resets every connection: what was under way is repeated, as it must be.
                    self.in_flight[blow] += self._simulator.stats()["in_flight"]
                with self.watch() if kind != "503" else nullcontext():
                    self._simulator.outage(TROUBLE_S, kind)
            case Blow.LIMIT:
                most = max(1, self._options.workers * self._options.concurrency // 2)
                self._simulator.configure(concurrency=most, concurrency_retry_after_s=LIMIT_RETRY_AFTER_S)
                self._limit_ends_s = time.monotonic() + TROUBLE_S
        self.counts[blow] += 1
        self._note(f"{blow}{f': {victim.name}' if victim else ''}, {in_flight} calls in flight")
        return True

    def _hit_worker(self, blow: Blow, victim: Child, pick: float) -> None:
        before = self._simulator.stats()
        if blow is Blow.TERM_WORKER:
            self._cast.term(victim)
            return
        self.in_flight[blow] += min(before["in_flight"], self._options.concurrency)
        with self.watch():
            if blow is Blow.STOP_WORKER:
                self._cast.stop(victim, self._options.lease_s * (1.5 + pick))
                return
            self._cast.kill(victim, pick * LONGEST_RESTART_S)
        self.mid_call_kills += self._simulator.stats()["client_gone"] > before["client_gone"]

    @contextmanager
    def watch(self) -> Iterator[None]:
        """What is done inside may be why a request that is under way is sent again; once for each time."""
        under_way = set(self._simulator.recent())
        yield
        time.sleep(HEARD_AFTER_S)
        self.hit.update(under_way.union(self._simulator.recent()))

    def _kill_server(self) -> bool:
        status = self._server.status() if self._server else None
        if status is None:
            return False
        self.in_flight[Blow.KILL_SERVER] += self._simulator.stats()["in_flight"]
        os.kill(status.pid, signal.SIGKILL)
        return True
