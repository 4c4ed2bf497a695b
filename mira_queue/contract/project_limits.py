"""Limits of a project: its open jobs, and the cost of its day. Amounts are whole billionths of the currency.

Whole numbers add up exactly, in Redis, too. A job carries its price, so that its cost is known when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from mira_queue.contract.errors import MiraQueueError

# Of a unit of the currency. The cheapest call costs more than one of them.
NANO = 10**9


@dataclass(frozen=True, slots=True)
class ProjectLimits:
    """Limits that apply when a job or a batch is accepted. `max_cost` is that of a day (UTC); 0 means no limit."""

    max_open: int = 0
    max_cost: int = 0

    def __bool__(self) -> bool:
        return bool(self.max_open or self.max_cost)


@dataclass(frozen=True, slots=True)
class JobPrice:
    """Prices of a token of a prompt and of an answer, and the estimated cost of one call of the job."""

    prompt: float
    completion: float
    per_call: int


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """What a project uses of its limits: open single jobs, open lines of batches, the cost of today (UTC).

    `reserved` is what its open jobs and batches may still cost.
    """

    jobs: int = 0
    lines: int = 0
    cost: int = 0
    reserved: int = 0

    @property
    def open(self) -> int:
        return self.jobs + self.lines


class LimitReached(MiraQueueError):
    """A limit of the project does not allow it. `limit` is that of its open jobs, or of the cost of its day."""

    def __init__(self, limit: Literal["open", "cost"]) -> None:
        super().__init__(limit)
        self.limit = limit

    def __str__(self) -> str:
        return f"the API key allows no more {'open jobs' if self.limit == 'open' else 'cost today'}"


NO_LIMITS = ProjectLimits()


def nano(amount: Decimal) -> int:
    """Return an amount in billionths, rounded up."""
    return int((amount * NANO).to_integral_value(ROUND_CEILING))


def amount_text(billionths: int) -> str:
    """Return an amount as a number of the currency, without zeros at its end."""
    return f"{(Decimal(billionths) / NANO).normalize():f}"
