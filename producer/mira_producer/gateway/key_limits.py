"""Limits of an API key: open jobs, and the cost of a day."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

from mira_producer.batches.lock import wait_for_lock
from mira_producer.gateway.http.errors import ApiError
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.batch import Batch

DAY_S = 86_400
_LOCK = "limits.lock"


def check_open(key: ApiKey, batches: Iterable[Batch], single_jobs: int) -> None:
    """Raise ApiError (429) if the project's open jobs reach the key's limit.

    They are its open single jobs, and the lines of its batches that have not finished.
    """
    if not key.max_open:
        return
    # A batch whose lines are not counted yet has at least one.
    count = single_jobs + sum(
        max(1, batch.total - batch.done) for batch in _of_project(key, batches) if not batch.status.is_final
    )
    if count >= key.max_open:
        raise ApiError(
            429,
            f"project {key.project} has {count:,} open jobs, and its API key allows {key.max_open:,}",
            code="max_open_reached",
            should_retry=False,
        )


def max_cost(key: ApiKey, asked: str, batches: Iterable[Batch]) -> str:
    """Return the maximum cost of a new batch: what was asked for, within what is left of the key's day.

    Raises ApiError (429) if nothing is left.
    """
    if not key.max_cost_per_day:
        return asked
    return _at_most(_left_of_day(key, batches), asked)


def max_cost_of_resumed(key: ApiKey, asked: str | None, batch: Batch, batches: Iterable[Batch]) -> str | None:
    """Return the new maximum cost of a batch, within its own cost and what is left of the key's day; None: the old one.

    Raises ApiError (429) if nothing is left for a larger one.
    """
    old = batch.options.max_cost
    if not key.max_cost_per_day or (asked is None and old):
        return asked
    if asked and old and Decimal(asked) <= Decimal(old):
        return asked
    return _at_most(_cost(batch) + _left_for(key, batch, batches), asked)


def check_cost_of_retry(key: ApiKey, batch: Batch, batches: Iterable[Batch]) -> None:
    """Raise ApiError (429) if nothing is left of the key's day. The batch keeps its own maximum cost."""
    if key.max_cost_per_day:
        _left_for(key, batch, batches)


@contextmanager
def one_at_a_time(key: ApiKey, state_dir: Path) -> Iterator[None]:
    """Hold the limits of a key, also against other gateways: no other batch is checked until this one counts."""
    if not (key.max_open or key.max_cost_per_day):
        yield
        return
    lock = wait_for_lock(state_dir.expanduser() / _LOCK)
    try:
        yield
    finally:
        os.close(lock)


def _left_for(key: ApiKey, batch: Batch, batches: Iterable[Batch]) -> Decimal:
    """Return what a batch may cost in addition to what it has cost. Raises ApiError."""
    spent = replace(batch, options=replace(batch.options, max_cost=""))
    return _left_of_day(key, [spent if each.id == batch.id else each for each in batches])


def _left_of_day(key: ApiKey, batches: Iterable[Batch]) -> Decimal:
    """Return the part of the limit that no batch has used or may still use. Raises ApiError.

    The cost of a batch counts for the day of its creation. What an open batch may still cost is reserved.
    """
    since_s = time.time() - DAY_S
    mine = list(_of_project(key, batches))
    used = sum((_cost(each) for each in mine if each.created_at > since_s), Decimal(0))
    reserved = sum((_reserved(each) for each in mine if not each.status.is_final), Decimal(0))
    left = Decimal(key.max_cost_per_day) - used - reserved
    if left <= 0:
        raise ApiError(
            429,
            f"the batches of project {key.project} have cost {used:f} in 24 h, and those that have not ended may cost "
            f"{reserved:f} more: its API key allows {key.max_cost_per_day}",
            code="max_cost_reached",
            kind="insufficient_quota",
            should_retry=False,
        )
    return left


def _at_most(most: Decimal, asked: str | None) -> str:
    # Without the zeros that the digits of the costs have left.
    return f"{min(most, Decimal(asked) if asked else most).normalize():f}"


def _cost(batch: Batch) -> Decimal:
    return Decimal(batch.cost or 0)


def _reserved(batch: Batch) -> Decimal:
    return max(Decimal(0), Decimal(batch.options.max_cost or 0) - _cost(batch))


def _of_project(key: ApiKey, batches: Iterable[Batch]) -> Iterable[Batch]:
    return (batch for batch in batches if batch.origin.project == key.project)
