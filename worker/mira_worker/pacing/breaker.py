"""When faults are the service's and not a job's: what its neighbours meet decides. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from mira_queue.contract.errors import JobError
from mira_queue.contract.pace import FaultStreak

# So many different jobs in a row must have met a fault, with no answer in between: at least, and at most. One sick
# job never closes the gate, and where many calls are out, a few faults in a row are chance.
LEAST_ROW, MOST_ROW = 3, 10
# Pauses between probes: short and slowly growing, so that the end of an outage is noticed within a fifth of its length.
FIRST_PAUSE, GROWTH, LONGEST_PAUSE = timedelta(milliseconds=250), 1.25, timedelta(minutes=1)
# The server's word about the request, not about itself: such a fault is charged whatever the neighbours meet.
OF_THE_REQUEST = frozenset({200, 408, 500})
# A job that was charged so often met faults while its neighbours were answered: its own words say nothing any more.
SICK_AFTER = 2


def is_sick(attempts: int) -> bool:
    """True: what this job meets is its own, whatever the gate is; it is charged, and closes nothing."""
    return attempts >= SICK_AFTER


def pause(row: FaultStreak, uniform: Callable[[float, float], float] = random.uniform) -> timedelta | None:
    """How long the gate closes after this fault; None: it stays as it is."""
    if row.is_old:
        return None
    if not row.was_probe and row.jobs < min(MOST_ROW, max(LEAST_ROW, row.in_flight // 2)):
        return None
    return uniform(0.8, 1.0) * _pause(row.openings)


def is_charged(row: FaultStreak, fault: JobError) -> bool:
    """True: the fault costs the job an attempt. A probe's does not: it was sent to ask for the service's health.

    Unless probes come a minute apart already: then every open job may be one that the service cannot answer, and they
    must end some day; in an outage of hours it is one job in a minute that is charged.
    """
    return not row.was_probe or fault.status in OF_THE_REQUEST or _pause(row.openings) == LONGEST_PAUSE


def _pause(openings: int) -> timedelta:
    # Beyond 50 steps any growth is past the longest; a power that large would not be a number.
    return min(LONGEST_PAUSE, FIRST_PAUSE * GROWTH ** min(openings, 50))
