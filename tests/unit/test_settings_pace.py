"""Ceilings that a user tells: MIRA_RATE, MIRA_TOKENS and MIRA_MAX_IN_FLIGHT, and what a wrong one says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.cli.config import described
from mira_producer.processes import environment_of

from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.contract.settings import RateLimit, SettingsError
from mira_queue.runtime.settings_loader import load_settings

DAY_S = 86_400


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def per(most: int, seconds: float) -> RateLimit:
    return RateLimit(most, timedelta(seconds=seconds))


@pytest.mark.parametrize("name", ["rate", "tokens"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("60/60s", per(60, 60)),
        ("60/60", per(60, 60)),
        ("10/s", per(10, 1)),
        ("60/min", per(60, 60)),
        ("60/m", per(60, 60)),
        ("60/1M", per(60, 60)),
        ("90000/2min", per(90_000, 120)),
        ("1000/h", per(1_000, 3_600)),
        ("1000/1.5h", per(1_000, 5_400)),
        ("1/d", per(1, DAY_S)),
        ("7/0.5s", per(7, 0.5)),
        ("  60 / 60 s ", per(60, 60)),
        ("999999999999/24h", per(999_999_999_999, DAY_S)),
    ],
)
def test_so_many_in_so_long_is_written_in_many_ways(
    name: str, written: str, expected: RateLimit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"MIRA_{name.upper()}", written)

    assert getattr(load_settings(), name) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MIRA_RATE", "60", "1000/h"),
        ("MIRA_RATE", "many", "1000/h"),
        ("MIRA_RATE", "60 per minute", "1000/h"),
        ("MIRA_RATE", "60/60s/2", "1000/h"),
        ("MIRA_RATE", "-60/60s", "1000/h"),
        ("MIRA_RATE", "6.5/60s", "1000/h"),
        ("MIRA_RATE", "0/60s", "1000/h"),
        ("MIRA_RATE", "60/0s", "1000/h"),
        ("MIRA_RATE", "60/0.000s", "1000/h"),
        ("MIRA_RATE", "60/week", "1000/h"),
        ("MIRA_RATE", "1000000000000/60s", "1000/h"),
        ("MIRA_RATE", "60/25h", "a day"),
        ("MIRA_RATE", "60/86401", "a day"),
        ("MIRA_TOKENS", "90000", "1000/h"),
        ("MIRA_TOKENS", "[60, 60]", "1000/h"),
        ("MIRA_RATE", '{"most": 0, "window": 0}', "1000/h"),
        ("MIRA_TOKENS", "90000/2d", "a day"),
        ("MIRA_MAX_IN_FLIGHT", "0", "greater than or equal to 1"),
        ("MIRA_MAX_IN_FLIGHT", "100001", "less than or equal to 100000"),
        ("MIRA_MAX_IN_FLIGHT", "three", "integer"),
    ],
)
def test_a_wrong_ceiling_is_one_line_that_names_the_variable(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert len(str(caught.value).splitlines()) == 1
    assert str(caught.value).startswith(f"{name}: ")
    assert expected in str(caught.value)


def test_a_long_wrong_value_is_not_repeated_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_RATE", "x" * 1000 + "\ny")

    with pytest.raises(SettingsError) as caught:
        load_settings()

    assert len(str(caught.value)) < 200


def test_without_a_word_nothing_is_told_and_an_empty_value_is_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIRA_RATE", "")
    monkeypatch.setenv("MIRA_MAX_IN_FLIGHT", "")

    assert load_settings().configured_limits.ceilings == ConfiguredLimits().ceilings


def test_what_is_told_reaches_the_pacer_in_calls_tokens_and_milliseconds() -> None:
    settings = load_settings(rate="60/6s", max_in_flight=3, tokens="90000/min")

    assert settings.configured_limits.ceilings == (60, 6_000, 3, 90_000, 60_000)


def test_a_ceiling_is_shown_in_seconds() -> None:
    shown = {each["variable"]: each["value"] for each in described(load_settings(rate="90/1.5min"))}

    assert (shown["MIRA_RATE"], shown["MIRA_TOKENS"]) == ("90/90s", None)


@pytest.mark.parametrize(
    "written",
    [
        "60/6s",
        "60/0.001s",
        "60/0.25h",
        "60/24h",
        "60/999.999s",
        "60/1000.001s",
        "60/86399.96s",
    ],
)
def test_a_ceiling_that_is_handed_to_a_child_is_the_same_there(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings(rate=written, tokens=written, max_in_flight=3)

    for name, text in environment_of(settings).items():
        monkeypatch.setenv(name, text)

    assert load_settings() == settings


@given(st.integers(1, 10**12 - 1), st.integers(0, 999_999), st.integers(0, 999), st.sampled_from(["s", "m", "h", "d"]))
def test_whatever_is_understood_is_at_least_one_in_at_least_a_millisecond_and_at_most_a_day(
    most: int, whole: int, thousandths: int, unit: str
) -> None:
    try:
        configured = load_settings(rate=f"{most}/{whole}.{thousandths:03}{unit}").configured_limits
    except ValueError:
        return

    assert configured.rate == most
    assert 1 <= configured.window_ms <= DAY_S * 1000


def test_the_usual_limits_are_expected_of_miras_own_api_only() -> None:
    other = {"api_base": "http://127.0.0.1:9/v1"}

    assert load_settings().configured_limits[5:] == (60, 60_000, 3)
    assert load_settings(**other).configured_limits[5:] == (0, 0, 0)
    chosen = load_settings(**other, expected_rate="500/60s", expected_in_flight=20)
    assert chosen.configured_limits[5:] == (500, 60_000, 20)
