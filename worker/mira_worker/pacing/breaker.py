"""Policy of the circuit breaker: other jobs' faults decide whether a fault is the service's or the job's. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from mira_queue.contract.errors import JobError
from mira_queue.contract.pace import FaultStreak

# The breaker opens after this many consecutive jobs with a fault, at least and at most. A single faulty job never opens
# it, and if many calls are in flight, a few consecutive faults are chance.
MIN_STREAK, MAX_STREAK = 3, 10
# Pauses between probes are short and grow slowly: the end of an outage is noticed within a fifth of its length.
FIRST_PAUSE, GROWTH, MAX_PAUSE = timedelta(milliseconds=250), 1.25, timedelta(minutes=1)
# Statuses that say something about the request, not about the service: always charged to the job.
OF_THE_REQUEST = frozenset({200, 408})
# A job that was charged this often had faults while other jobs were answered: its faults say nothing about the service.
SICK_AFTER = 2


def is_sick(attempts: int) -> bool:
    """Return True if the job's faults are its own: they are charged, and do not open the breaker."""
    return attempts >= SICK_AFTER


def pause(streak: FaultStreak, uniform: Callable[[float, float], float] = random.uniform) -> timedelta | None:
    """Return how long the breaker opens after this fault, or None if it stays as it is."""
    if streak.is_old:
        return None
    if not streak.was_probe and streak.jobs < min(MAX_STREAK, max(MIN_STREAK, streak.in_flight // 2)):
        return None
    return uniform(0.8, 1.0) * _pause(streak.openings)


def is_charged(streak: FaultStreak, fault: JobError) -> bool:
    """Return True if the fault costs the job an attempt. A probe's fault does not, because it tests the service.

    If probes are a minute apart, it does: every open job may be one that the service cannot answer, and they must
    finish at some time. In an outage of hours, one job per minute is charged.
    """
    return not streak.was_probe or fault.status in OF_THE_REQUEST or _pause(streak.openings) == MAX_PAUSE


def _pause(openings: int) -> timedelta:
    # Beyond 50 steps, the pause is at its maximum; the power would overflow.
    return min(MAX_PAUSE, FIRST_PAUSE * GROWTH ** min(openings, 50))
