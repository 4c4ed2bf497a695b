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
# Pauses between probes grow by this share of the outage's length, not with the number of faults. In the first minute,
# they stay short: the end of an outage is noticed within two seconds.
FIRST_PAUSE, SHORT_PAUSE, MAX_PAUSE = timedelta(milliseconds=250), timedelta(milliseconds=1500), timedelta(minutes=1)
SHARE, SHORT_OUTAGE = 1 / 4, timedelta(minutes=1)
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
    return uniform(0.8, 1.0) * _pause(streak.lasted_ms)


def is_charged(streak: FaultStreak, fault: JobError) -> bool:
    """Return True if the fault costs the job an attempt. A probe's fault does not, because it tests the service.

    If probes are a minute apart, it does: every open job may be one that the service cannot answer, and they must
    finish at some time. In an outage of hours, one job per minute is charged.
    """
    return not streak.was_probe or fault.status in OF_THE_REQUEST or _pause(streak.lasted_ms) == MAX_PAUSE


def _pause(lasted_ms: int) -> timedelta:
    lasted = timedelta(milliseconds=lasted_ms)
    beyond = max(timedelta(0), lasted - SHORT_OUTAGE)
    return min(MAX_PAUSE, max(FIRST_PAUSE, min(SHORT_PAUSE, SHARE * lasted)) + SHARE * beyond)
