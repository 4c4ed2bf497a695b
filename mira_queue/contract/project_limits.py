"""Limits of a project: its open jobs, and the cost of its day. Amounts are whole billionths of the currency.

Whole numbers add up exactly, in Redis, too. A job carries its price, so that its cost is known when it ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from typing import Literal

from mira_queue.contract.errors import MiraQueueError

# Of a unit of the currency. The cheapest call costs more than one of them.
NANO = 10**9
# In billionths, a larger amount does not fit into the 64 bits of a number in JSON.
MAX_AMOUNT = Decimal(10**9)
MAX_DECIMALS = 18


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
    """Usage of the limits of a project: open single jobs, open lines of batches, the cost of today (UTC).

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


def checked_amount(text: str) -> Decimal:
    """Return a maximum cost. Raises ValueError if the text is not an amount above 0, at most MAX_AMOUNT."""
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise ValueError(f"expected an amount above 0, such as 10 or 0.50, got {text[:40]!r}")
    # Nothing is computed before this: 1e999999999 must not be written out.
    if amount > MAX_AMOUNT or int(amount.as_tuple().exponent) < -MAX_DECIMALS:
        raise ValueError(f"expected an amount up to {MAX_AMOUNT:,}, with up to {MAX_DECIMALS} decimals")
    return amount


def nano(amount: Decimal) -> int:
    """Return an amount in billionths, rounded up; one over MAX_AMOUNT counts as MAX_AMOUNT, and NaN as 0."""
    if amount.is_nan():
        return 0
    bounded = max(-MAX_AMOUNT, min(MAX_AMOUNT, amount))
    return int((bounded * NANO).to_integral_value(ROUND_CEILING))


def amount_text(billionths: int) -> str:
    """Return an amount as a number of the currency, without zeros at its end."""
    return f"{(Decimal(billionths) / NANO).normalize():f}"
