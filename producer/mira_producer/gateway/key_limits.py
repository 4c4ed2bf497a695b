"""Limits of an API key: open jobs, and the cost of a day."""

from __future__ import annotations

import time
from collections.abc import Iterable
from decimal import Decimal

from mira_producer.gateway.errors import ApiError
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.batch import Batch

DAY_S = 86_400


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

    The cost of a batch counts for the day of its creation. Raises ApiError (429) if nothing is left.
    """
    if not key.max_cost_per_day:
        return asked
    since_s = time.time() - DAY_S
    used = sum((Decimal(each.cost or 0) for each in _of_project(key, batches) if each.created_at > since_s), Decimal(0))
    left = Decimal(key.max_cost_per_day) - used
    if left <= 0:
        raise ApiError(
            429,
            f"the batches of project {key.project} have cost {used:f} in 24 h, and its API key allows "
            f"{key.max_cost_per_day}",
            code="max_cost_reached",
            kind="insufficient_quota",
            should_retry=False,
        )
    return f"{min(left, Decimal(asked)):f}" if asked else f"{left:f}"


def _of_project(key: ApiKey, batches: Iterable[Batch]) -> Iterable[Batch]:
    return (batch for batch in batches if batch.origin.project == key.project)
