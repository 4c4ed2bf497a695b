"""Histograms of call times."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mira_queue.contract.call_times import DURATION_S, WAIT_S, CallTimes, fields_of, histograms_of

CALLS = st.lists(st.builds(CallTimes, st.none() | st.integers(0, 10**7), st.integers(0, 10**7)), max_size=20)


@given(CALLS)
def test_each_call_is_in_the_bucket_with_the_next_higher_end(calls: list[CallTimes]) -> None:
    flat = fields_of([*calls, None])
    fields: Counter[str] = Counter()
    for name, amount in zip(flat[::2], flat[1::2], strict=True):
        fields[str(name)] += int(amount)

    found = histograms_of(fields)

    for histogram, times in zip(
        found, ([c.duration_ms for c in calls if c.duration_ms is not None], [c.waited_ms for c in calls]), strict=True
    ):
        assert sum(histogram.counts) == len(times)
        assert round(histogram.sum_s * 1000) == sum(times)
        for place, end_s in enumerate(histogram.ends_s):
            assert sum(histogram.counts[: place + 1]) == sum(ms / 1000 <= end_s for ms in times)


def test_buckets_have_rising_ends() -> None:
    for ends in (DURATION_S, WAIT_S):
        assert list(ends) == sorted(set(ends))
