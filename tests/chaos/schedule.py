"""Plan of a run: which faults happen, and after which share of the work. Pure, and determined by the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """Kind of a fault."""

    KILL_WORKER = "SIGKILL worker"
    TERM_WORKER = "SIGTERM worker"
    STOP_WORKER = "SIGSTOP worker past its lease, SIGCONT"
    KILL_PRODUCER = "SIGKILL producer"
    KILL_BATCH = "SIGKILL batch run or supervisor"
    TERM_BATCH = "SIGTERM batch run or supervisor"
    KILL_SERVER = "SIGKILL server"
    STOP_SERVER = "SIGSTOP server past all leases, SIGCONT"
    KILL_CLIENTS = "CLIENT KILL of all clients"
    FLUSH_SCRIPTS = "SCRIPT FLUSH"
    LIMIT_MEMORY = "memory limit of the server"
    JUMP_CLOCK = "jump of the server's clock by an hour"
    OUTAGE_500 = "API outage: 500"
    OUTAGE_503 = "API outage: 503"
    OUTAGE_DROP = "API outage: connections reset"
    OUTAGE_REFUSE = "API outage: no connections"
    LIMIT = "API limit"
    INTERIM = "interim responses of the API"
    PAUSE = "pause and resume of a batch"


# Shares of all faults. 300 faults include 86 SIGKILLs of workers and 24 of the server.
_SHARES = {
    Fault.KILL_WORKER: 0.26,
    Fault.TERM_WORKER: 0.07,
    Fault.STOP_WORKER: 0.07,
    Fault.KILL_PRODUCER: 0.07,
    Fault.KILL_BATCH: 0.07,
    Fault.TERM_BATCH: 0.03,
    Fault.KILL_SERVER: 0.08,
    Fault.STOP_SERVER: 0.03,
    Fault.KILL_CLIENTS: 0.05,
    Fault.FLUSH_SCRIPTS: 0.04,
    Fault.LIMIT_MEMORY: 0.03,
    Fault.JUMP_CLOCK: 0.03,
    Fault.OUTAGE_500: 0.02,
    Fault.OUTAGE_503: 0.02,
    Fault.OUTAGE_DROP: 0.02,
    Fault.OUTAGE_REFUSE: 0.02,
    Fault.LIMIT: 0.02,
    Fault.INTERIM: 0.02,
    Fault.PAUSE: 0.06,
}
SERVER_FAULTS = frozenset(
    {
        Fault.KILL_SERVER,
        Fault.STOP_SERVER,
        Fault.KILL_CLIENTS,
        Fault.FLUSH_SCRIPTS,
        Fault.LIMIT_MEMORY,
        Fault.JUMP_CLOCK,
    }
)
BATCH_FAULTS = frozenset({Fault.KILL_BATCH, Fault.TERM_BATCH, Fault.PAUSE})
# Producers end before the work does: their faults come early, when there is still a producer.
_EARLY = {Fault.KILL_PRODUCER: 0.4}
# No fault before the first jobs run or after the last: the system is idle then.
_FIRST, _LAST = 0.02, 0.95


@dataclass(frozen=True, slots=True)
class Event:
    """Planned fault. `at` is the share of all answers after which it happens. `pick` (0 to 1) selects the target."""

    at: float
    fault: Fault
    pick: float


def plan(seed: int, faults: int, *, without: frozenset[Fault] = frozenset()) -> list[Event]:
    """Return the events of a run, in order. SIGKILLs of workers replace the kinds `without`."""
    source = random.Random(f"chaos:{seed}")
    shares = dict(_SHARES)
    for fault in without:
        shares[Fault.KILL_WORKER] += shares.pop(fault)
    kinds = [fault for fault, count in _counts(shares, faults).items() for _ in range(count)]
    source.shuffle(kinds)
    moments = sorted(source.uniform(_FIRST, _LAST) for _ in kinds)
    events = [
        Event(max(_FIRST, at * _EARLY.get(fault, 1.0)), fault, source.random())
        for at, fault in zip(moments, kinds, strict=True)
    ]
    return sorted(events, key=lambda event: event.at)


def _counts(shares: dict[Fault, float], total: int) -> dict[Fault, int]:
    """Return counts in these shares that sum to `total`. Each kind occurs at least once if `total` allows it."""
    counts = {fault: max(1, int(total * share)) for fault, share in shares.items()}
    counts[Fault.KILL_WORKER] = 0
    counts[Fault.KILL_WORKER] = total - sum(counts.values())
    if counts[Fault.KILL_WORKER] <= 0:
        return {Fault.KILL_WORKER: total}
    return counts
