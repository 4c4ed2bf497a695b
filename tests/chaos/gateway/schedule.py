"""Plan of a run: which faults happen, and after which share of the creates. Pure, and determined by the seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class GatewayFault(StrEnum):
    """Kind of a fault."""

    KILL_GATEWAY = "SIGKILL gateway"
    KILL_ALL = "SIGKILL gateway and its workers"
    TERM_GATEWAY = "SIGTERM gateway"
    STOP_GATEWAY = "SIGSTOP gateway for some seconds, SIGCONT"
    KILL_WORKER = "SIGKILL worker"
    STOP_WORKER = "SIGSTOP worker past its lease, SIGCONT"
    KILL_SUPERVISOR = "SIGKILL supervisor"
    KILL_SERVER = "SIGKILL server"
    RECEIVER_DOWN = "receiver of webhooks does not listen"
    RECEIVER_ERRORS = "receiver of webhooks responds with 500 or 502"


_SHARES = {
    GatewayFault.KILL_GATEWAY: 0.2,
    GatewayFault.KILL_ALL: 0.08,
    GatewayFault.TERM_GATEWAY: 0.1,
    GatewayFault.STOP_GATEWAY: 0.08,
    GatewayFault.KILL_WORKER: 0.18,
    GatewayFault.STOP_WORKER: 0.06,
    GatewayFault.KILL_SUPERVISOR: 0.12,
    GatewayFault.KILL_SERVER: 0.1,
    GatewayFault.RECEIVER_DOWN: 0.04,
    GatewayFault.RECEIVER_ERRORS: 0.04,
}
# No fault before there is work, or after the last create.
_FIRST, _LAST = 0.03, 0.98


@dataclass(frozen=True, slots=True)
class GatewayEvent:
    """Planned fault. `at` is the share of the creates after which it happens. `pick` (0 to 1) selects the details."""

    at: float
    fault: GatewayFault
    pick: float


def plan(seed: int, faults: int) -> list[GatewayEvent]:
    """Return the events of a run, in order. The most frequent kinds come first if there are fewer than kinds."""
    source = random.Random(f"gateway chaos:{seed}")
    by_share = sorted(GatewayFault, key=lambda fault: -_SHARES[fault])
    kinds = by_share[:faults]
    kinds += source.choices(by_share, [_SHARES[fault] for fault in by_share], k=faults - len(kinds))
    source.shuffle(kinds)
    moments = sorted(source.uniform(_FIRST, _LAST) for _ in kinds)
    return [GatewayEvent(at, fault, source.random()) for at, fault in zip(moments, kinds, strict=True)]
