"""A crash point is reached by name and pass, and armed only where no call costs money."""

from __future__ import annotations

import pytest

from mira_queue.contract.crash_point import CrashPoint, parse_crash_at
from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.settings_loader import load_settings

SIMULATOR = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("after-claim", (CrashPoint.AFTER_CLAIM, 1)), ("before-accept:12", (CrashPoint.BEFORE_ACCEPT, 12))],
)
def test_a_point_is_named_with_its_pass(text: str, expected: tuple[CrashPoint, int]) -> None:
    assert parse_crash_at(text) == expected


@pytest.mark.parametrize("text", ["", "nowhere", "AFTER_CLAIM", "after-claim:0", "after-claim:x", "after-claim:-1"])
def test_anything_else_is_refused_with_the_names_that_exist(text: str) -> None:
    with pytest.raises(ValueError, match="after-claim, after-answer"):
        parse_crash_at(text)


def test_nothing_dies_unless_it_was_told_to() -> None:
    for points in (CrashPoints(), CrashPoints("after-claim:2"), CrashPoints("after-finish")):
        points.reach(CrashPoint.AFTER_CLAIM)


def test_a_point_cannot_be_armed_where_calls_cost_money() -> None:
    assert load_settings(crash_at="after-claim", api_base=SIMULATOR).crash_at == "after-claim"
    with pytest.raises(SettingsError, match="MIRA_API_BASE"):
        load_settings(crash_at="after-claim")
    with pytest.raises(SettingsError, match="MIRA_CRASH_AT: expected NAME"):
        load_settings(crash_at="somewhere", api_base=SIMULATOR)
