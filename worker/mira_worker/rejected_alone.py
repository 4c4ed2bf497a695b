"""Whether the job itself is the cause of its 429s: it is rejected while other jobs are accepted. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from mira_queue.contract.call_history import CallHistory

# Fewer rejections prove nothing. Each costs the account a wait.
MIN_REJECTIONS = 6
# The job is the cause if an average job of the account would be rejected as often with less than this probability.
MAX_CHANCE = 1e-9


def after_rejection(history: CallHistory, sent: int, rate_limited: int) -> CallHistory:
    """Return the history after a 429. `sent` and `rate_limited` count all calls of the account, this one included.

    A rejection counts if another job's call was accepted since the last one that counted.
    """
    if not history.rejections or sent < history.sent:
        return replace(history, rejections=1, sent=sent, rate_limited=rate_limited, accepted=sent - rate_limited)
    accepted = sent - rate_limited
    if accepted <= history.accepted:
        return history
    return replace(history, rejections=history.rejections + 1, accepted=accepted)


def is_cause(history: CallHistory, sent: int, rate_limited: int) -> bool:
    """Return True if the job is rejected more often than chance explains, given the other calls of the account."""
    if history.rejections < MIN_REJECTIONS:
        return False
    others = sent - history.sent
    rejected = max(0, rate_limited - history.rate_limited - (history.rejections - 1))
    # Laplace's estimate: with few other calls, the chance is not taken for zero.
    chance = (rejected + 1) / (others + 2)
    return history.rejections * math.log(chance) < math.log(MAX_CHANCE)
