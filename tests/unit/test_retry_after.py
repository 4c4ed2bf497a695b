"""Retry-After: seconds, fractions, dates, nothing, nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.retry_after import MAX_WAIT, MIN_WAIT, WHEN_MISSING, parse_retry_after, stated_wait, wait_after_limit

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("60", 60), (" 5 ", 5), ("0.25", 0.25), ("1.5", 1.5), ("3600", 3600), ("86400", 86_400), ("+7", 7), ("1e2", 100)],
)
def test_seconds_and_fractions_are_taken_at_their_word(header: str, seconds: float) -> None:
    assert parse_retry_after(header, NOW).wait == timedelta(seconds=seconds)
    assert parse_retry_after(header, NOW).remark is None


@pytest.mark.parametrize(
    "header",
    ["Thu, 01 Jan 2026 12:02:00 GMT", "Thursday, 01-Jan-26 12:02:00 GMT", "Thu Jan  1 12:02:00 2026"],
)
def test_each_form_of_an_http_date_is_a_wait_from_now(header: str) -> None:
    assert parse_retry_after(header, NOW).wait == timedelta(minutes=2)


@given(st.integers(1, 86_400))
def test_a_date_and_its_distance_mean_the_same(seconds: int) -> None:
    header = format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)

    assert parse_retry_after(header, NOW) == parse_retry_after(str(seconds), NOW)


@pytest.mark.parametrize("header", [None, "", "  "])
def test_a_missing_header_is_a_minute(header: str | None) -> None:
    answer = parse_retry_after(header, NOW)

    assert (answer.wait, answer.remark) == (WHEN_MISSING, "missing")
    assert timedelta(seconds=60) == WHEN_MISSING


@pytest.mark.parametrize("header", ["soon", "nan", "12:00", "1,5", "--3", "Thu, 99 Foo 2026 12:00:00 GMT"])
def test_an_unreadable_header_is_a_minute_and_is_remarked(header: str) -> None:
    answer = parse_retry_after(header, NOW)

    assert answer.wait == WHEN_MISSING
    assert answer.remark is not None
    assert header in answer.remark


@pytest.mark.parametrize(
    "header",
    [
        "Mon, 01 Jan 2026 00:00:00 +9999999999999999999999",
        "Mon, 01 Jan 2026 00:00:00 -2400",
        "Mon, 01 Jan 99999999999999999 00:00:00 GMT",
    ],
)
def test_a_date_beyond_those_that_python_knows_is_a_minute(header: str) -> None:
    assert parse_retry_after(header, NOW).wait == WHEN_MISSING


@pytest.mark.parametrize("header", ["86401", "99999999999", "inf", "1e300", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_an_absurd_header_is_a_day_and_is_remarked(header: str) -> None:
    answer = parse_retry_after(header, NOW)

    assert answer.wait == MAX_WAIT
    assert "absurd" in (answer.remark or "")


@pytest.mark.parametrize("header", ["-1", "-99999999999", "-inf", "Wed, 01 Jan 2020 00:00:00 GMT"])
def test_a_negative_or_past_header_is_a_second_and_is_remarked(header: str) -> None:
    answer = parse_retry_after(header, NOW)

    assert answer.wait == MIN_WAIT
    assert "negative" in (answer.remark or "")


@pytest.mark.parametrize("header", ["0", "0.0", "-0", "Thu, 01 Jan 2026 12:00:00 GMT"])
def test_now_is_a_second_so_that_a_crowd_does_not_knock_at_once(header: str) -> None:
    assert parse_retry_after(header, NOW).wait == MIN_WAIT


@given(
    st.none()
    | st.text()
    | st.floats().map(str)
    | st.integers().map(str)
    | st.datetimes(timezones=st.just(UTC)).map(lambda moment: format_datetime(moment, usegmt=True))
)
def test_whatever_the_header_the_wait_is_positive_and_at_most_a_day(header: str | None) -> None:
    assert timedelta(0) < parse_retry_after(header, NOW).wait <= MAX_WAIT


@given(st.floats(0.000001, 86_400))
def test_the_wait_is_never_shorter_than_what_was_asked(seconds: float) -> None:
    assert parse_retry_after(repr(seconds), NOW).wait >= timedelta(seconds=seconds)


@given(st.from_regex(r"\A(Mon, )?[0-9]{1,20} (Jan|Feb|Dec) [0-9]{1,20} [0-9:]{1,12}( GMT| [+-][0-9]{1,40})?\Z"))
def test_no_date_raises(header: str) -> None:
    assert parse_retry_after(header, NOW).wait >= MIN_WAIT


names = st.sampled_from(
    ["retry-after", "retry-after-ms", "x-ms-retry-after-ms", "x-ratelimit-reset", "x-ratelimit-remaining",
     "x-ratelimit-reset-tokens", "x-ratelimit-remaining-tokens", "ratelimit", "ratelimit-reset", "date"]
)  # fmt: skip
texts = (
    st.text(max_size=20) | st.integers().map(str) | st.floats().map(str) | st.from_regex(r"\A[0-9rt=;, msh.]{1,20}\Z")
)
bodies = st.lists(
    st.dictionaries(
        st.sampled_from(["retry_after", "retryDelay", "headers", "retry_after_ms"]),
        texts | st.integers() | st.floats() | st.dictionaries(names, texts, max_size=2),
        max_size=3,
    ),
    max_size=2,
).map(tuple)


@given(st.dictionaries(names, texts, max_size=4), bodies)
def test_whatever_a_response_states_the_wait_is_positive_and_at_most_a_day(
    headers: dict[str, str], parts: tuple[dict[str, object], ...]
) -> None:
    stated = stated_wait(headers, parts, NOW)

    assert stated is None or timedelta(0) < stated.wait <= MAX_WAIT
    assert timedelta(0) < wait_after_limit(headers, parts, NOW).wait <= MAX_WAIT


@given(st.integers(1, 86_400), st.dictionaries(names, texts, max_size=4))
def test_a_readable_retry_after_precedes_everything_else(seconds: int, others: dict[str, str]) -> None:
    stated = stated_wait({**others, "retry-after": str(seconds)}, (), NOW)

    assert stated is not None
    assert stated.wait == timedelta(seconds=seconds)
