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
    OUTAGE = "API outage"
    LIMIT = "API limit"

    @property
    def is_kill(self) -> bool:
        return self not in (Fault.OUTAGE, Fault.LIMIT)


# Shares of all kills. 300 kills include 138 SIGKILLs of workers and 30 of the server.
_SHARES = {
    Fault.KILL_WORKER: 0.45,
    Fault.TERM_WORKER: 0.10,
    Fault.STOP_WORKER: 0.10,
    Fault.KILL_PRODUCER: 0.11,
    Fault.KILL_BATCH: 0.10,
    Fault.TERM_BATCH: 0.04,
    Fault.KILL_SERVER: 0.10,
}
# One outage and one limit of the API per this many kills.
_KILLS_PER_API_FAULT = 8
# No fault before the first jobs run or after the last: the system is idle then.
_FIRST, _LAST = 0.02, 0.95


@dataclass(frozen=True, slots=True)
class Event:
    """Planned fault. `at` is the share of all answers after which it happens. `pick` (0 to 1) selects the target."""

    at: float
    fault: Fault
    pick: float


def plan(seed: int, kills: int, *, server: bool, batches: bool) -> list[Event]:
    """Return the events of a run, in order. Without `server` or `batches`, workers get their share."""
    source = random.Random(f"chaos:{seed}")
    shares = dict(_SHARES)
    spared = [] if server else [Fault.KILL_SERVER]
    spared += [] if batches else [Fault.KILL_BATCH, Fault.TERM_BATCH]
    for fault in spared:
        shares[Fault.KILL_WORKER] += shares.pop(fault)
    faults = [fault for fault, count in _counts(shares, kills).items() for _ in range(count)]
    faults += [Fault.OUTAGE, Fault.LIMIT] * (kills // _KILLS_PER_API_FAULT)
    source.shuffle(faults)
    moments = sorted(source.uniform(_FIRST, _LAST) for _ in faults)
    return [Event(at, fault, source.random()) for at, fault in zip(moments, faults, strict=True)]


def _counts(shares: dict[Fault, float], total: int) -> dict[Fault, int]:
    """Return counts in these shares that sum to `total`. Each kind occurs at least once if `total` allows it."""
    counts = {fault: max(1, int(total * share)) for fault, share in shares.items()}
    counts[Fault.KILL_WORKER] = 0
    counts[Fault.KILL_WORKER] = total - sum(counts.values())
    if counts[Fault.KILL_WORKER] < 0:
        return {Fault.KILL_WORKER: total}
    return counts
