"""What a report is drawn from: right sums, right times, and as little memory after a million lines as after a few."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.cost.prices import Price, Prices
from mira_producer.cost.usage import Usage
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import NOTHING
from mira_producer.report.recorder import (
    FIRST_WIDTH_S,
    MAX_BUCKETS,
    MAX_SLOW,
    Bucket,
    Example,
    Latencies,
    Recorder,
    merged,
)

from mira_queue.contract.batch import Reason
from mira_queue.contract.errors import ServerError
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.ledger.accounts import PaceView

CALM = PaceView("account", "", Estimate(), "", timedelta(0), in_flight=0, waiting=0, now_ms=1_000_000)
LIMIT = Reason("limit", "account limit: 60 in 60 s", timedelta(seconds=12))


class Clock:
    def __init__(self) -> None:
        self.now_s = 500.0

    def __call__(self) -> float:
        return self.now_s


def answer(latency_ms: int = 100, attempts: int = 1) -> Completion:
    return Completion("Hi", "stop", {}, {}, attempts=attempts, latency_ms=latency_ms)


def total(recorder: Recorder) -> Bucket:
    (everything,) = merged(recorder.timeline.buckets, len(recorder.timeline.buckets))
    return everything


# --- over time ---


def test_lines_stand_in_the_time_in_which_they_ended() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    recorder.ended("a", answer(), code="", usage=Usage(1, 3, 2, Decimal("0.1")))
    clock.now_s += 4 * FIRST_WIDTH_S
    recorder.ended("b", Failure("server_error", "down", 503), code="server_error (503)")

    buckets = recorder.timeline.buckets
    assert len(buckets) == 5
    assert (buckets[0].answers, buckets[0].usage) == (1, Usage(1, 3, 2, Decimal("0.1")))
    assert buckets[4].failed == 1


@given(steps=st.lists(st.floats(0, 3000), max_size=200))
def test_however_long_a_run_is_nothing_is_lost_and_the_buckets_are_few(steps: list[float]) -> None:
    clock = Clock()
    recorder = Recorder(clock)
    for step in steps:
        clock.now_s += step
        recorder.ended("a", answer(), code="")

    timeline = recorder.timeline
    assert len(timeline.buckets) <= MAX_BUCKETS
    assert sum(bucket.answers for bucket in timeline.buckets) == len(steps)
    if steps:
        last = (len(timeline.buckets) - 1) * timeline.width_s
        assert last <= clock.now_s - 500.0 + 1e-6
        assert clock.now_s - 500.0 < last + timeline.width_s + 1e-6


def test_a_year_of_silence_is_no_year_of_buckets() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    recorder.ended("a", answer(), code="")
    clock.now_s += 365 * 86_400
    recorder.ended("b", answer(), code="")

    assert len(recorder.timeline.buckets) <= MAX_BUCKETS
    assert total(recorder).answers == 2


def test_waits_are_as_long_as_they_were_also_over_buckets_that_merge() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    for second in range(1000):
        recorder.sampled(CALM, LIMIT if second % 10 < 3 else NOTHING)
        clock.now_s += 1
    recorder.end()

    assert recorder.waited() == {"limit": pytest.approx(300)}
    assert max(bucket.waited_s.get("limit", 0.0) for bucket in recorder.timeline.buckets) <= recorder.timeline.width_s


def test_a_wait_lasts_until_the_end() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    recorder.sampled(CALM, LIMIT)
    clock.now_s += 7
    recorder.end()
    clock.now_s += 100

    assert recorder.waited() == {"limit": pytest.approx(7)}
    assert recorder.seconds == 7


def test_calls_in_flight_and_limits_are_those_that_were_seen() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    estimate = Estimate(rate=Limit(60, 60_000, 1), in_flight=Limit(3, 1000, 1))
    recorder.sampled(replace(CALM, in_flight=3), NOTHING)
    recorder.sampled(replace(CALM, in_flight=1, estimate=estimate), NOTHING)
    clock.now_s += 2 * FIRST_WIDTH_S
    recorder.ended("a", answer(), code="")

    first, nobody_looked, _ = recorder.timeline.buckets
    assert (first.in_flight, first.in_flight_limit, first.rate_limit) == (3, 3, 1.0)
    assert nobody_looked.in_flight is None
    assert first.merge(nobody_looked).in_flight_limit == 3


def test_refusals_are_counted_as_the_accounts_record_grows() -> None:
    recorder = Recorder(Clock())
    for event_ms, refused in ((5, 4), (5, 4), (900, 1), (900, 3), (950, 2)):
        recorder.sampled(replace(CALM, estimate=Estimate(event_ms=event_ms, event_rate_limited=refused)), NOTHING)

    # The four were there before this run.
    assert recorder.rate_limited() == 1 + 2 + 2


# --- latencies ---


def test_quantiles_are_right_to_a_twelfth() -> None:
    latencies = Latencies()
    for latency_ms in range(1, 10_001):
        latencies.add(latency_ms)

    for share in (0.1, 0.5, 0.9, 0.99):
        assert latencies.quantile(share) == pytest.approx(10_000 * share, rel=1 / 12)
    assert latencies.quantile(1) == latencies.max_ms == 10_000


def test_without_latencies_there_is_no_quantile() -> None:
    assert Latencies().quantile(0.5) == 0


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1))
def test_whatever_a_clock_says_a_quantile_is_a_time_of_a_day_at_most(numbers: list[int]) -> None:
    latencies = Latencies()
    for number in numbers:
        latencies.add(number)

    quantiles = [latencies.quantile(share / 10) for share in range(11)]
    assert quantiles == sorted(quantiles)
    assert quantiles[0] >= 1
    assert quantiles[-1] <= 86_400_000
    assert len(latencies.classes) < 250


def test_the_slowest_lines_are_kept_and_no_others() -> None:
    recorder = Recorder(Clock())
    for number in range(1000):
        recorder.ended(f"line-{number}", answer(latency_ms=number * 7919 % 1000 + 1), code="")

    assert sorted((slow.latency_ms for slow in recorder.slowest), reverse=True) == list(
        range(1000, 1000 - MAX_SLOW, -1)
    )


# --- errors ---


def test_of_each_code_the_first_lines_and_the_beginnings_of_their_messages_are_kept() -> None:
    recorder = Recorder(Clock())
    for number in range(5000):
        failure = Failure.from_error(ServerError("x" * 10_000, 500 + number % 300, 5, 0))
        recorder.ended("i" * 512, failure, code=f"server_error ({500 + number % 300})")

    assert len(recorder.samples) == 40
    examples = recorder.samples["server_error (500)"]
    assert [(len(each.custom_id), len(each.detail)) for each in examples] == [(200, 300)] * 3


def test_calls_that_were_made_again_are_counted() -> None:
    recorder = Recorder(Clock())
    recorder.ended("a", answer(attempts=3), code="")
    recorder.ended("b", answer(attempts=3), code="", billed=False)
    recorder.ended("c", Failure("unreachable", "", None, attempts=5), code="unreachable")

    assert recorder.repeats == 2 + 4


# --- with the stats ---


def test_the_stats_tell_the_recorder_of_every_line() -> None:
    clock = Clock()
    recorder = Recorder(clock)
    stats = Stats(3, 0, 0, Prices("USD", {"mira": Price(Decimal(1), Decimal(2))}), clock, recorder)
    usage = {"prompt_tokens": 1_000_000, "completion_tokens": 500_000}
    stats.add(Completion("Hi", "stop", usage, {"model": "mira"}, latency_ms=70), custom_id="slow")
    stats.add(Completion("Hi", "stop", usage, {"model": "mira"}, latency_ms=70), custom_id="copy", billed=False)
    stats.add(Failure("refused", "no", 418), custom_id="bad")

    everything = total(recorder)
    assert (everything.answers, everything.failed, everything.usage.prompt_tokens) == (2, 1, 1_000_000)
    assert everything.usage.cost == stats.usage.cost == 2
    assert [slow.custom_id for slow in recorder.slowest] == ["slow"]
    assert recorder.samples == {"refused (418)": [Example("bad", 0, "no")]}
