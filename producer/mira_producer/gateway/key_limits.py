"""Limits of an API key: open jobs, and the cost of a day. The ledger applies them when it accepts a job or a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from mira_producer.cost.prices import Prices
from mira_producer.gateway.http.errors import ApiError, invalid
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.request_line import raw_lines
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.batch import Batch
from mira_queue.contract.project_limits import (
    JobPrice,
    LimitReached,
    ProjectLimits,
    ProjectUsage,
    amount_text,
    nano,
)
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.token_estimate import max_completion_tokens, tokens_of_bytes

# Other requests may take what was left, between the read of the usage and the write.
MAX_TRIES = 10
NO_TABLE = (
    "the gateway has no price table, without which no cost can be limited: its operator names one (serve --prices)"
)
UsageOf = Callable[[], ProjectUsage]
T = TypeVar("T")


def limits_of(key: ApiKey) -> ProjectLimits:
    return ProjectLimits(key.max_open, nano(Decimal(key.max_cost_per_day or 0)))


def price_of(key: ApiKey, prices: Prices, request: ChatRequest, body: Mapping[str, Any]) -> JobPrice | None:
    """Return the price of a job, or None if it has none. Raises ApiError if the key limits the cost of the job."""
    price = prices.models.get(request.model)
    if key.max_cost_per_day:
        check_table(prices)
        if price is None:
            reason = (
                f"{request.model[:80]!r} has no price in the gateway's price table, and the API key limits the cost"
            )
            raise invalid("model", reason, "model_without_price")
    if price is None:
        return None
    estimate = prices.cost(request.model, tokens_of_bytes(len(request.body)), max_completion_tokens(body))
    assert estimate is not None
    return JobPrice(float(price.prompt * 1000), float(price.completion * 1000), nano(estimate))


def check_table(prices: Prices) -> None:
    """Raise ApiError (500) if there is no price table for a limit of a key: its operator can help, not the caller."""
    if not prices:
        raise ApiError(500, NO_TABLE, code="no_price_table", should_retry=False)


def open_lines(key: ApiKey, path: Path) -> int:
    """Return the number of lines of an input, counted as far as the key's limit: more do not fit in any case."""
    if not key.max_open:
        return 1
    count = 0
    # A file that cannot be read is a problem of the batch, which lists it.
    with suppress(InputError, OSError):
        count = sum(1 for _ in islice(raw_lines(path), key.max_open + 1))
    return max(1, count)


def max_cost(key: ApiKey, asked: str, usage: ProjectUsage) -> str:
    """Return the maximum cost of a new batch: what was asked for, within what is left of the key's day.

    Raises ApiError (429) if nothing is left.
    """
    if not key.max_cost_per_day:
        return asked
    return _at_most(_left_of_day(key, usage), asked)


def max_cost_of_resumed(key: ApiKey, asked: str | None, batch: Batch, usage: ProjectUsage) -> str | None:
    """Return the new maximum cost of a batch, within its own cost and what is left of the key's day; None: the old one.

    Raises ApiError (429) if nothing is left for a larger one.
    """
    old = batch.options.max_cost
    if not key.max_cost_per_day or (asked is None and old):
        return asked
    if asked and old and Decimal(asked) <= Decimal(old):
        return asked
    own = reserved_by(batch)
    left = _left_of_day(key, ProjectUsage(usage.jobs, usage.lines, usage.cost, usage.reserved - own))
    return _at_most(_cost(batch) + left, asked)


def reserved_by(batch: Batch) -> int:
    """Return what an open batch may still cost, within its own maximum."""
    most = nano(Decimal(batch.options.max_cost or 0))
    return 0 if batch.status.is_final else max(0, most - _cost(batch))


def additional_cost(batch: Batch, granted: str | None) -> int:
    """Return what a batch may cost in addition to its reservation, with another maximum cost; None: the old one."""
    return max(0, nano(Decimal(granted)) - _cost(batch) - reserved_by(batch)) if granted else 0


def cost_of_retry(batch: Batch) -> int:
    """Return what a batch that has ended may cost when it runs again: it keeps its maximum cost."""
    return max(0, nano(Decimal(batch.options.max_cost or 0)) - _cost(batch)) if batch.status.is_final else 0


@contextmanager
def explained(key: ApiKey, usage_of: UsageOf, adding: int = 1) -> Iterator[None]:
    """Turn a limit that is reached into an error that says how much of it is used (429)."""
    try:
        yield
    except LimitReached as error:
        usage = usage_of()
        raise (_open_error(key, usage, adding) if error.limit == "open" else _cost_error(key, usage)) from None


def repeated(act: Callable[[], T]) -> T:
    """Repeat an act whose amount was left when it was computed, and is not any more. Raises LimitReached."""
    for _ in range(MAX_TRIES - 1):
        try:
            return act()
        except LimitReached as error:
            if error.limit == "open":
                raise
    return act()


def _left_of_day(key: ApiKey, usage: ProjectUsage) -> int:
    """Return the part of the limit that is neither used nor reserved. Raises ApiError."""
    left = nano(Decimal(key.max_cost_per_day)) - usage.cost - usage.reserved
    if left <= 0:
        raise _cost_error(key, usage)
    return left


def _open_error(key: ApiKey, usage: ProjectUsage, adding: int) -> ApiError:
    more = f", this batch has {'more than ' if adding > key.max_open else ''}{min(adding, key.max_open):,} lines"
    return ApiError(
        429,
        f"project {key.project} has {usage.open:,} open jobs{more if adding > 1 else ''}, and its API key allows "
        f"{key.max_open:,}",
        code="max_open_reached",
        should_retry=False,
    )


def _cost_error(key: ApiKey, usage: ProjectUsage) -> ApiError:
    return ApiError(
        429,
        f"project {key.project} has cost {amount_text(usage.cost)} today (UTC), and its open jobs and batches may cost "
        f"{amount_text(usage.reserved)} more: its API key allows {key.max_cost_per_day} per day",
        code="max_cost_reached",
        kind="insufficient_quota",
        should_retry=False,
    )


def _at_most(most: int, asked: str | None) -> str:
    return amount_text(min(most, nano(Decimal(asked))) if asked else most)


def _cost(batch: Batch) -> int:
    return nano(Decimal(batch.cost or 0))
