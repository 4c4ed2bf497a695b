"""What X-RateLimit headers say, in all the ways in which servers write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mira_worker.pacing.headers import room_left
from requests.structures import CaseInsensitiveDict

from mira_queue.contract.pace import Room

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
UNIX_S = NOW.timestamp()
NAMES = [f"x-ratelimit-{word}{of}" for word in ("remaining", "reset") for of in ("", "-requests", "-tokens")]


def headers(left: str, reset: str, of: str = "") -> dict[str, str]:
    return {f"x-ratelimit-remaining{of}": left, f"x-ratelimit-reset{of}": reset}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1", 1),
        ("0.25", 0.25),
        (" 30 ", 30),
        ("1s", 1),
        ("120ms", 0.12),
        ("6m0s", 360),
        ("1h2m3.5s", 3723.5),
        ("1d", 86_400),
        ("86400", 86_400),
        (str(UNIX_S + 60), 60),
        (str(int(UNIX_S) + 60), 60),
        (str(int(UNIX_S + 60) * 1000), 60),
        ("2025-06-01T12:01:00Z", 60),
    ],
)
def test_each_way_to_write_the_reset_is_understood(written: str, seconds: float) -> None:
    assert room_left(headers("7", written), NOW) == Room(7, timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "written",
    ["", "0", "-1", "0s", "soon", "6m 0s", "6m0s!", "1y", "86401", "2d", "nan", "inf", "-inf", "1e400",
         str(UNIX_S), str(UNIX_S - 5), str(UNIX_S + 90_000)],
)  # fmt: skip
def test_a_reset_that_is_past_too_far_or_unreadable_says_nothing(written: str) -> None:
    assert room_left(headers("7", written), NOW) is None


@pytest.mark.parametrize("written", ["", "-1", "3.5", "many", "1e3", "0x1", "7, 8"])
def test_a_number_left_that_is_none_says_nothing(written: str) -> None:
    assert room_left(headers(written, "60"), NOW) is None


@pytest.mark.parametrize("missing", ["x-ratelimit-remaining", "x-ratelimit-reset"])
def test_one_without_the_other_says_nothing(missing: str) -> None:
    found = headers("7", "60")
    del found[missing]

    assert room_left(found, NOW) is None
    assert room_left({}, NOW) is None


def test_names_are_read_in_any_case() -> None:
    found = CaseInsensitiveDict({"X-RateLimit-Remaining-Requests": "7", "X-RateLimit-Reset-Requests": "1s"})

    assert room_left(found, NOW) == Room(7, timedelta(seconds=1))


def test_of_two_words_the_tighter_one_counts() -> None:
    found = headers("9", "60") | headers("7", "1s", "-requests")

    assert room_left(found, NOW) == Room(7, timedelta(seconds=1))


def test_no_tokens_left_is_no_call_left() -> None:
    requests = headers("9", "1s", "-requests")

    assert room_left(requests | headers("0", "6s", "-tokens"), NOW) == Room(0, timedelta(seconds=6))
    assert room_left(headers("0", "6s", "-tokens"), NOW) == Room(0, timedelta(seconds=6))
    assert room_left(requests | headers("1", "6s", "-tokens"), NOW) == Room(9, timedelta(seconds=1))
    assert room_left(requests | headers("0", "later", "-tokens"), NOW) == Room(9, timedelta(seconds=1))


@given(st.dictionaries(st.sampled_from(NAMES), st.text(max_size=20) | st.from_regex(r"\A[0-9.eE+a-z-]{1,12}\Z")))
@example(headers("٣", "1s"))
@example(headers("1", "9" * 400 + "d"))
def test_whatever_a_server_writes_is_no_error(found: dict[str, str]) -> None:
    room = room_left(found, NOW)

    if room is not None:
        assert room.remaining >= 0
        assert timedelta(0) < room.reset <= timedelta(days=1)


def test_a_number_of_any_length_is_no_error() -> None:
    assert room_left(headers("1" * 5000, "1s"), NOW) is None
