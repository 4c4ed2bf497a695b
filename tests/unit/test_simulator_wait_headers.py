"""Headers that say when to retry: they never state less than the true wait, and our worker reads what they mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.pacing.headers import room_left

from mira_queue.simulator.wait_headers import RateHeaders, RetryAfterForm, Standing, duration, rate_headers, retry_after

WALL = 1_800_000_000.25
NOW = datetime.fromtimestamp(WALL, UTC)
TINY_S = 1e-6
PROMISING: tuple[RetryAfterForm, ...] = ("auto", "integer", "fraction", "date", "unix", "ms", "x-ms")
waits = st.floats(0.01, 80_000)


@given(waits, st.sampled_from(PROMISING))
def test_no_form_states_less_than_the_wait_or_a_second_more(seconds: float, form: RetryAfterForm) -> None:
    headers, promised = retry_after(seconds, form, WALL)

    assert len(headers) == 1
    assert promised is not None
    assert seconds - TINY_S <= promised <= seconds + 1


@given(waits, st.integers(0, 60), st.sampled_from(["openai", "seconds", "unix", "unix-ms"]))
def test_what_remains_and_its_reset_are_read_as_they_were_meant(
    reset_s: float, remaining: int, form: RateHeaders
) -> None:
    headers = rate_headers([Standing("requests", 60, 6.0, remaining + 0.5, reset_s)], form, WALL)
    room = room_left({name.lower(): text for name, text in headers.items()}, NOW)

    assert room is not None
    assert room.remaining == remaining
    assert timedelta(seconds=reset_s - 0.001) <= room.reset <= timedelta(seconds=reset_s + 1.001)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0ms"), (0.0201, "21ms"), (1.0, "1s"), (1.5, "1.5s"), (360.0, "6m0s"), (3661.0, "1h1m1s")],
)
def test_a_duration_is_written_as_openai_writes_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_tighter_limit_is_stated_if_there_is_only_one_set_of_headers() -> None:
    calls, tokens = Standing("requests", 60, 6.0, 50, 1.0), Standing("tokens", 6000, 6.0, 60, 2.0)

    assert rate_headers([calls, tokens], "draft", WALL)["RateLimit"] == '"default";r=60;t=2'
    assert rate_headers([calls, tokens], "openai", WALL)["x-ratelimit-remaining-requests"] == "50"
    assert rate_headers([], "openai", WALL) == {}
