"""Delivery of one webhook event to one receiver, and what follows from an attempt. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

# Waits before the attempts, as Standard Webhooks specifies: about 72 hours in total.
WAITS = (
    timedelta(0),
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
    timedelta(hours=14),
    timedelta(hours=20),
    timedelta(hours=24),
)
# Added to a wait at random, so that the deliveries of an outage do not return together.
MAX_JITTER = 0.2
GONE = 410
# Responses of a receiver that is overloaded. All its deliveries wait, at least for this long.
_OVERLOADED = frozenset({429, 502, 504})
MIN_PAUSE = timedelta(seconds=5)
# A receiver may ask for any wait. After this one, it is tried again.
MAX_PAUSE = timedelta(hours=1)


class DeliveryState(StrEnum):
    """State of a delivery. A dead one has no further attempt, unless it is sent again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Result of an attempt. `status` is None if there was no response: `error` says why."""

    status: int | None = None
    retry_after: timedelta | None = None
    error: str = ""

    def __str__(self) -> str:
        return self.error or f"HTTP {self.status}"


@dataclass(frozen=True, slots=True)
class Delivered:
    """The receiver has it."""


@dataclass(frozen=True, slots=True)
class TryLater:
    """Another attempt after `wait`. No delivery to the receiver starts before `pause` has passed."""

    wait: timedelta
    pause: timedelta


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt. With `is_gone`, the receiver wants no deliveries at all."""

    is_gone: bool = False


def decide(attempt: Attempt, attempts: int, chance: float) -> Delivered | TryLater | Dead:
    """Return what follows from an attempt. `attempts` counts all so far, and `chance` is from 0 to 1."""
    if attempt.status is not None and 200 <= attempt.status < 300:
        return Delivered()
    if attempt.status == GONE:
        return Dead(is_gone=True)
    if attempts >= len(WAITS):
        return Dead()
    wait = WAITS[attempts] * (1 + MAX_JITTER * chance)
    if attempt.retry_after is None and attempt.status not in _OVERLOADED:
        return TryLater(wait, timedelta(0))
    pause = min(MAX_PAUSE, max(MIN_PAUSE, attempt.retry_after or MIN_PAUSE))
    return TryLater(max(wait, pause), pause)
