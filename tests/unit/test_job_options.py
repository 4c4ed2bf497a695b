"""Options of a job, as callers give them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mira_queue import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.job_options import JobOptions, Priority
from mira_queue.contract.names import Lane

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize("given", [{"delay": HOUR}, {"delay": 3600}, {"delay": 3600.0}, {"not_before": NOW + HOUR}])
def test_a_start_is_a_duration_or_a_time(given: dict[str, Any]) -> None:
    assert JobOptions.checked(NOW, **given).delay == HOUR


@pytest.mark.parametrize("deadline", [HOUR, 3600, NOW + HOUR])
def test_a_deadline_is_a_duration_or_a_time(deadline: Any) -> None:
    assert JobOptions.checked(NOW, deadline=deadline).time_left == HOUR


def test_a_job_whose_time_has_come_starts_now() -> None:
    assert JobOptions.checked(NOW, not_before=NOW - HOUR).delay == timedelta(0)


def test_each_priority_has_a_lane() -> None:
    assert [each.lane for each in Priority] == [Lane.FIRST, Lane.NORMAL, Lane.LOW]
    assert JobOptions.checked(NOW, priority="low").priority is Priority.LOW


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": True}, "delay"),
        ({"delay": "1h"}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"delay": 1e300}, "delay"),
        ({"delay": NOW}, "delay"),
        ({"delay": 1, "not_before": NOW}, "not_before"),
        ({"not_before": HOUR}, "not_before"),
        ({"not_before": datetime(2030, 1, 1)}, "not_before"),
        ({"not_before": NOW + timedelta(days=1000)}, "not_before"),
        ({"deadline": NOW - HOUR}, "deadline"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": HOUR, "delay": HOUR}, "deadline"),
        ({"priority": "urgent"}, "priority"),
        ({"priority": 3}, "priority"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"metadata": {"k" * 65: ""}}, "metadata"),
        ({"metadata": {"": "no key"}}, "metadata"),
        ({"metadata": {"key": "v" * 513}}, "metadata"),
        ({"metadata": {"key": 7}}, "metadata"),
        ({"metadata": {"key": "\ud800"}}, "metadata"),
        ({"metadata": ["key"]}, "metadata"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        JobOptions.checked(NOW, **given)

    assert rejected.value.field == field


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"state": "done"}, "state"),
        ({"code": 402}, "code"),
        ({"code": ""}, "code"),
        ({"code": "poison", "state": "queued"}, "code"),
        ({"since": datetime(2030, 1, 1)}, "since"),
        ({"metadata": {"key": 7}}, "metadata"),
    ],
)
def test_a_wrong_filter_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        JobFilter.checked(**given)

    assert rejected.value.field == field
