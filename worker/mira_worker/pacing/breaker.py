"""Policy of the circuit breaker: other jobs' faults decide whether a fault is the service's or the job's. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from mira_queue.contract.errors import JobError
from mira_queue.contract.pace import FaultStreak

# Faults of fewer jobs are the jobs' own.
MIN_STREAK = 3
# The breaker opens after faults of half as many jobs as calls are in flight, or of a quarter if that is more than this.
# If many are in flight, a few faults before the next answer are chance.
MANY_JOBS = 10
# Pauses between probes grow by this share of the outage's length, not with the number of faults. In the first minute,
# they stay short: the end of an outage is noticed within two seconds.
FIRST_PAUSE, SHORT_PAUSE, MAX_PAUSE = timedelta(milliseconds=250), timedelta(milliseconds=1500), timedelta(minutes=1)
SHARE, SHORT_OUTAGE = 1 / 4, timedelta(minutes=1)
# Statuses that say something about the request, not about the service: always charged to the job.
OF_THE_REQUEST = frozenset({200, 408})


def pause(streak: FaultStreak, uniform: Callable[[float, float], float] = random.uniform) -> timedelta | None:
    """Return how long the breaker opens after this fault, or None if it stays as it is."""
    if streak.is_old or streak.closed_breaker:
        return None
    if not streak.was_probe and streak.jobs < _jobs_that_open(streak.in_flight):
        return None
    return uniform(0.8, 1.0) * _pause(streak.lasted_ms)


def is_charged(streak: FaultStreak, fault: JobError) -> bool:
    """Return True if the fault costs the job an attempt.

    It does if the service has answered a call that started after the job's earlier fault. Otherwise, it does not if
    other jobs have faults, too. Faults of sick jobs, which had such a fault of their own, do not count: if only sick
    jobs are left, they use up their attempts. A probe's fault is not charged, because it tests the service. If probes
    are a minute apart, it is: every open job may be one that the service cannot answer, and they must finish at some
    time. In an outage of hours, one job per minute is charged.
    """
    if streak.is_own or not streak.jobs or fault.status in OF_THE_REQUEST:
        return True
    if streak.was_probe:
        return _pause(streak.lasted_ms) == MAX_PAUSE
    return streak.jobs < MIN_STREAK


def _jobs_that_open(in_flight: int) -> int:
    return max(MIN_STREAK, min(in_flight // 2, max(MANY_JOBS, in_flight // 4)))


def _pause(lasted_ms: int) -> timedelta:
    lasted = timedelta(milliseconds=lasted_ms)
    beyond = max(timedelta(0), lasted - SHORT_OUTAGE)
    return min(MAX_PAUSE, max(FIRST_PAUSE, min(SHORT_PAUSE, SHARE * lasted)) + SHARE * beyond)
