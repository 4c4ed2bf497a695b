"""A deadline as it is written, and what is said of one that is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from mira_producer.time_text import parse_time

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("24h", timedelta(hours=24)),
        ("90m", timedelta(minutes=90)),
        ("90 min", timedelta(minutes=90)),
        ("1.5H", timedelta(minutes=90)),
        (" 45s ", timedelta(seconds=45)),
        ("7d", timedelta(days=7)),
    ],
)
def test_so_long_is_counted_from_now(text: str, wait: timedelta) -> None:
    assert parse_time(text, NOW) == NOW + wait


@pytest.mark.parametrize("text", ["2030-01-31T18:00:00+00:00", "2030-01-31T18:00Z", "2030-01-31 19:00:00+01:00"])
def test_an_iso_time_is_that_time(text: str) -> None:
    assert parse_time(text, NOW) == datetime(2030, 1, 31, 18, 0, tzinfo=UTC)


def test_an_iso_time_without_a_zone_is_local() -> None:
    assert parse_time("2030-01-31T18:00", NOW) == datetime(2030, 1, 31, 18, 0).astimezone()


@pytest.mark.parametrize(
    "text", ["", "soon", "24", "-1h", "0h", "h", "1e9d", "999999999d", "24h 30m", "2030-13-01", "12:00"]
)
def test_what_is_no_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="expected "):
        parse_time(text, NOW)


def test_a_span_of_the_past_is_counted_backward() -> None:
    assert parse_time("2h", NOW, is_past=True) == NOW - timedelta(hours=2)
    assert parse_time("2030-01-31T18:00", NOW, is_past=True, zone=UTC) == datetime(2030, 1, 31, 18, 0, tzinfo=UTC)
    assert parse_time("2030-01-31T18:00+01:00", NOW, zone=UTC) == datetime(2030, 1, 31, 17, 0, tzinfo=UTC)
