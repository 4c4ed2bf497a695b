"""Cost limits of API keys: no sequence of requests gets more than the limit of a day."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
from mira_producer.batches.lock import is_locked
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.key_limits import (
    DAY_S,
    check_cost_of_retry,
    max_cost,
    max_cost_of_resumed,
    one_at_a_time,
)

from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.batch import Batch, BatchOptions, BatchOrigin, BatchStatus

KEY = ApiKey("key_1", "app", Scope.SUBMIT, 1000, max_cost_per_day="10")
UNLIMITED = replace(KEY, max_cost_per_day="")


def batch(
    name: str, *, cost: str = "", limit: str = "", is_open: bool = True, age_s: float = 0, project: str = "app"
) -> Batch:
    status = BatchStatus.IN_PROGRESS if is_open else BatchStatus.COMPLETED
    options = BatchOptions(max_cost=limit)
    created_at = int(time.time() - age_s)
    return Batch(name, status, "a", "here:/a", created_at, options, cost=cost, origin=BatchOrigin(project))


def test_a_batch_that_has_not_ended_reserves_its_whole_budget() -> None:
    first = batch("1", limit=max_cost(KEY, "6", []))
    second = batch("2", limit=max_cost(KEY, "", [first]))

    assert (first.options.max_cost, second.options.max_cost) == ("6", "4")
    with pytest.raises(ApiError) as caught:
        max_cost(KEY, "1", [first, second])
    assert (caught.value.status, caught.value.code) == (429, "max_cost_reached")


def test_a_batch_that_has_ended_counts_with_its_cost_on_the_day_of_its_creation() -> None:
    ended = [
        batch("1", cost="2.5", limit="10", is_open=False),
        batch("2", cost="9", limit="10", is_open=False, age_s=DAY_S + 60),
        batch("3", cost="9", limit="10", project="other"),
    ]

    assert max_cost(KEY, "", ended) == "7.5"


def test_an_open_batch_of_an_earlier_day_reserves_what_it_may_still_cost() -> None:
    assert max_cost(KEY, "", [batch("1", cost="6", limit="8", age_s=DAY_S + 60)]) == "8"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("", "7"), ("100", "7"), ("6.5", "6.5"), ("1", "1"), (None, None)],
)
def test_a_resumed_batch_gets_its_own_cost_and_what_is_left(asked: str | None, expected: str | None) -> None:
    paused, other = batch("1", cost="4", limit="4"), batch("2", cost="1", limit="3")

    assert max_cost_of_resumed(KEY, asked, paused, [paused, other]) == expected
    assert max_cost_of_resumed(UNLIMITED, asked, paused, []) == asked


def test_a_batch_of_an_earlier_day_is_resumed_with_its_cost_and_the_new_days_limit() -> None:
    paused = batch("1", cost="4", limit="4", age_s=DAY_S + 60)

    assert max_cost_of_resumed(KEY, "", paused, [paused]) == "14"


def test_a_batch_that_another_key_created_without_a_limit_gets_one_when_it_is_resumed() -> None:
    paused = batch("1", cost="4")

    assert max_cost_of_resumed(KEY, None, paused, [paused]) == "10"


def test_nothing_is_left_for_a_larger_budget_or_a_retry_of_a_spent_day() -> None:
    mine, other = batch("1", cost="3", limit="3", is_open=False), batch("2", cost="2", limit="7")

    with pytest.raises(ApiError) as caught:
        max_cost_of_resumed(KEY, "4", mine, [mine, other])
    assert caught.value.status == 429
    with pytest.raises(ApiError):
        check_cost_of_retry(KEY, mine, [mine, other])
    check_cost_of_retry(KEY, mine, [mine])
    check_cost_of_retry(UNLIMITED, mine, [mine, other])


def test_the_limits_of_a_key_are_held_while_a_batch_is_created(tmp_path: Path) -> None:
    lock = tmp_path / "limits.lock"

    with one_at_a_time(KEY, tmp_path):
        assert is_locked(lock)
    assert not is_locked(lock)
    with one_at_a_time(UNLIMITED, tmp_path):
        assert not is_locked(lock)
