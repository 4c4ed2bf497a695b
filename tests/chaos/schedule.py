"""The plan of a run: what is killed, and after which share of the work. Pure, and the same for the same seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Blow(StrEnum):
    """One thing done to the system."""

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
        return self not in (Blow.OUTAGE, Blow.LIMIT)


# Shares of all kills. 300 of them make 138 SIGKILLs of workers and 30 of the server.
_SHARES = {
    Blow.KILL_WORKER: 0.45,
    Blow.TERM_WORKER: 0.10,
    Blow.STOP_WORKER: 0.10,
    Blow.KILL_PRODUCER: 0.11,
    Blow.KILL_BATCH: 0.10,
    Blow.TERM_BATCH: 0.04,
    Blow.KILL_SERVER: 0.10,
}
# An outage and a limit of the API for so many kills.
_KILLS_PER_TROUBLE = 8
# Nothing before the first jobs run, and nothing after the last: both would hit an idle system.
_FIRST, _LAST = 0.02, 0.95


@dataclass(frozen=True, slots=True)
class Event:
    """`at`: the share of all answers after which it happens. `pick`: 0 to 1, which of those that it could hit."""

    at: float
    blow: Blow
    pick: float


def plan(seed: int, kills: int, *, server: bool, batches: bool) -> list[Event]:
    """The events of a run, in order. Without `server` or `batches`, their share falls to the workers."""
    source = random.Random(f"chaos:{seed}")
    shares = dict(_SHARES)
    spared = [] if server else [Blow.KILL_SERVER]
    spared += [] if batches else [Blow.KILL_BATCH, Blow.TERM_BATCH]
    for blow in spared:
        shares[Blow.KILL_WORKER] += shares.pop(blow)
    blows = [blow for blow, count in _counts(shares, kills).items() for _ in range(count)]
    blows += [Blow.OUTAGE, Blow.LIMIT] * (kills // _KILLS_PER_TROUBLE)
    source.shuffle(blows)
    moments = sorted(source.uniform(_FIRST, _LAST) for _ in blows)
    return [Event(at, blow, source.random()) for at, blow in zip(moments, blows, strict=True)]


def _counts(shares: dict[Blow, float], total: int) -> dict[Blow, int]:
    """Whole numbers in these shares that add up to `total`; each kind at least once where there are enough."""
    counts = {blow: max(1, int(total * share)) for blow, share in shares.items()}
    counts[Blow.KILL_WORKER] = 0
    counts[Blow.KILL_WORKER] = total - sum(counts.values())
    if counts[Blow.KILL_WORKER] < 0:
        return {Blow.KILL_WORKER: total}
    return counts
