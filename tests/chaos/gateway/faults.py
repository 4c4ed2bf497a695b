"""Injection of the planned faults, with the requests that were in flight at each of them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.schedule import GatewayEvent, GatewayFault
from tests.chaos.gateway.service import Service, kill
from tests.chaos.gateway.webhook_log import WebhookLog
from tests.chaos.schedule import Fault
from tests.chaos.server_faults import ServerFaults
from tests.support.simulator_process import SimulatorProcess

# The simulator notices a killed client when the kernel closes its connections.
HEARD_AFTER_S = 0.1
# After this time without a fault, although one is planned, the gateway is killed in whatever state it is.
PATIENCE_S = 45.0
# Share of the faults that may hit a gateway while it starts. The others wait until its workers work.
STARTING_SHARE = 0.15
# SIGSTOP of the gateway. The longer ones exceed the timeout of the clients.
STOP_S = (2.0, 10.0)
# Shorter than the wait before the second attempt of a delivery.
RECEIVER_S = 3.0


class GatewayFaults:
    """Injects one fault at a time. The scorecard reads `counts` and `hit`."""

    def __init__(
        self,
        options: GatewayOptions,
        service: Service,
        server: ServerFaults,
        log: WebhookLog,
        simulator: SimulatorProcess,
        note: Callable[[str], None],
    ) -> None:
        self._options = options
        self._service = service
        self._server = server
        self._log = log
        self._simulator = simulator
        self._note = note
        #: Since when planned faults have found no target.
        self._waiting_since_s: float | None = None
        self.counts: Counter[GatewayFault] = Counter()
        self.in_flight = 0
        #: For each request: the crashes of workers or of the server during which it was in flight.
        self.hit: defaultdict[str, Counter[Fault]] = defaultdict(Counter)

    def tend(self) -> None:
        """End the faults whose time has passed."""
        if self._service.has_due():
            self._note("SIGCONT")
            # A worker that was stopped just before a call sends it now.
            with self._watch(Fault.STOP_WORKER):
                self._service.resume()
        self._log.tend()

    def inject(self, event: GatewayEvent) -> bool:
        """Inject the event. Return False if there is no target yet."""
        fault = event.fault
        if self._waiting_since_s is None:
            self._waiting_since_s = time.monotonic()
        impatient = time.monotonic() - self._waiting_since_s > PATIENCE_S
        done = self._inject(fault, event.pick, impatient)
        if not done and impatient:
            fault = GatewayFault.KILL_GATEWAY
            done = self._inject(fault, event.pick, impatient)
        if done:
            self._waiting_since_s = None
            self.counts[fault] += 1
            self._note(fault)
        return done

    def _inject(self, fault: GatewayFault, pick: float, impatient: bool) -> bool:
        match fault:
            case GatewayFault.RECEIVER_DOWN | GatewayFault.RECEIVER_ERRORS:
                if not self._log.is_in_trouble:
                    act = self._log.go_down if fault is GatewayFault.RECEIVER_DOWN else self._log.fail
                    act(RECEIVER_S)
                    return True
                return False
            case GatewayFault.KILL_SERVER:
                with self._watch(Fault.KILL_SERVER):
                    return self._server.kill()
            case GatewayFault.KILL_SUPERVISOR:
                found = self._service.supervisors()
                for pid in found:
                    kill(pid)
                return bool(found)
        may_be_starting = impatient or pick < STARTING_SHARE
        is_target = self._service.is_whole if may_be_starting else self._is_working()
        return is_target and self._hit_gateway(fault, pick)

    def _is_working(self) -> bool:
        """Return True if the gateway is ready and workers call. A system that only starts proves little."""
        return self._service.is_ready and self._simulator.stats()["in_flight"] > 0

    def _hit_gateway(self, fault: GatewayFault, pick: float) -> bool:
        workers = self._service.workers()
        victim = workers[int(pick * len(workers))] if workers else None
        match fault:
            case GatewayFault.KILL_GATEWAY:
                self._service.kill(pick)
            case GatewayFault.TERM_GATEWAY:
                self._service.term()
            case GatewayFault.STOP_GATEWAY:
                shortest_s, longest_s = STOP_S
                self._service.stop(self._service.gateway.pid, shortest_s + pick * (longest_s - shortest_s))
            case GatewayFault.KILL_ALL:
                with self._watch(Fault.KILL_WORKER):
                    for pid in workers:
                        kill(pid)
                    self._service.kill(pick)
            case GatewayFault.KILL_WORKER if victim:
                with self._watch(Fault.KILL_WORKER):
                    kill(victim)
            case GatewayFault.STOP_WORKER if victim:
                with self._watch(Fault.STOP_WORKER):
                    self._service.stop(victim, self._options.lease_s * (1.5 + pick))
            case _:
                return False
        return True

    @contextmanager
    def _watch(self, fault: Fault) -> Iterator[None]:
        """Record the requests in flight. The fault inside may cause each of them to be sent once more."""
        before = set(self._simulator.recent())
        yield
        time.sleep(HEARD_AFTER_S)
        found = before | set(self._simulator.recent())
        self.in_flight += len(found)
        for content in found:
            self.hit[content][fault] += 1
