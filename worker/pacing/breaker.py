"""When faults are the service's and not a job's: what its neighbours meet decides. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta

from mira_queue.contract.errors import JobError
from mira_queue.ledger.pace import FaultRow

# So many different jobs in a row must have met a fault, with no answer in between: at least, and at most. One sick
# job never closes the gate, and where many calls are out, a few faults in a row are chance.
LEAST_ROW, MOST_ROW = 3, 10
# Pauses between probes: short and slowly growing, so that the end of an outage is noticed within a fifth of its length.
FIRST_PAUSE, GROWTH, LONGEST_PAUSE = timedelta(milliseconds=250), 1.25, timedelta(minutes=1)
# The server's word about the request, not about itself: such a fault is charged whatever the neighbours meet.
OF_THE_REQUEST = frozenset({200, 408, 500})


def pause(row: FaultRow, uniform: Callable[[float, float], float] = random.uniform) -> timedelta | None:
    """How long the gate closes after this fault; None: it stays as it is."""
    if row.is_old:
        return None
    if not row.was_probe and row.jobs < min(MOST_ROW, max(LEAST_ROW, row.flying // 2)):
        return None
    longest_s = LONGEST_PAUSE.total_seconds()
    # Beyond 50 steps any growth is past the longest; a power that large would not be a number.
    seconds = min(longest_s, FIRST_PAUSE.total_seconds() * GROWTH ** min(row.trips, 50))
    return timedelta(seconds=uniform(0.8, 1.0) * seconds)


def is_charged(row: FaultRow, fault: JobError) -> bool:
    """True: the fault costs the job an attempt. A probe's does not: it was sent to ask for the service's health."""
    return not row.was_probe or fault.status in OF_THE_REQUEST
