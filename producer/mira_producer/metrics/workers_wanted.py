"""Number of workers that the backlog could use and the learned limits allow. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from typing_extensions import TypedDict

from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.queue_stats import AccountStats, QueueStats

# A circuit breaker that stays open for longer needs one worker, for its probe. After most 429s, it is open for less:
# the number of workers must not change with every one of them.
LONG = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Demand:
    """Calls that an account could have in flight, for its jobs that do not wait for a retry, with its limits."""

    account: str
    jobs: int
    calls: int
    workers: int


class AccountDemand(TypedDict):
    """Demand of one account, as JSON."""

    account: str
    jobs: int
    calls: int
    workers_wanted: int


class WorkersWanted(TypedDict):
    """Number of workers for a scaler, as JSON, with the live ones and the slots of each."""

    object: Literal["workers_wanted"]
    workers_wanted: int
    workers: int
    slots_per_worker: int
    accounts: list[AccountDemand]


def useful_calls(jobs: int, in_flight: int, rate_per_s: float | None, call_s: float) -> int:
    """Return how many calls can be in flight together: one for each job, within the concurrency limit and the rate.

    At a rate, as many calls are in flight as start during one call. There is always room for one.
    """
    calls = min(jobs, max(1, in_flight))
    if rate_per_s is not None and call_s > 0:
        calls = min(calls, max(1, math.ceil(rate_per_s * call_s)))
    return max(0, calls)


def workers_for(calls: int, slots: int) -> int:
    """Return how many workers make so many calls, with this number of slots each."""
    return -(-calls // slots)


def demand_of(stats: AccountStats, slots: int) -> Demand:
    """Return what an account could use."""
    jobs = stats.leased + sum(stats.queued.values())
    calls = useful_calls(jobs, *_limits_of(stats.pace))
    return Demand(stats.pace.account, jobs, calls, workers_for(calls, slots))


def workers_wanted(demands: Sequence[Demand], slots: int) -> int:
    """Return the number of workers for all accounts: one worker serves several, and they share its slots."""
    return workers_for(sum(each.calls for each in demands), slots)


def demand_object(stats: QueueStats, slots: int) -> WorkersWanted:
    """Return the numbers as JSON for a scaler."""
    demands = [demand_of(each, slots) for each in stats.accounts]
    return {
        "object": "workers_wanted",
        "workers_wanted": workers_wanted(demands, slots),
        "workers": stats.workers,
        "slots_per_worker": slots,
        "accounts": [
            {"account": each.account, "jobs": each.jobs, "calls": each.calls, "workers_wanted": each.workers}
            for each in demands
        ],
    }


def _limits_of(pace: PaceView) -> tuple[int, float | None, float]:
    """Return the calls in flight that are allowed, the rate per second (None: not known), and the length of a call."""
    rate, in_flight = pace.estimate.rate, pace.estimate.in_flight
    if pace.breaker == "faults" or pace.open_for > LONG:
        return 1, None, 0
    per_s = rate.allowed / (rate.window_ms / 1000) if rate and rate.window_ms else None
    return in_flight.allowed if in_flight else pace.estimate.start, per_s, pace.call_ms / 1000
