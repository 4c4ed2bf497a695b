"""What a run counts: how lines ended, tokens, cost; and its rates and time left, in a world with a clock of its own."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from mira_producer.cost.prices import Price, Prices
from mira_producer.engine.stats import MAX_MODELS, OTHER_MODELS, Stats
from mira_producer.engine.throughput import LEVELS, MARKS, Throughput

from mira_queue.contract.errors import BadRequest, ServerError, Unreachable
from mira_queue.contract.outcome import Completion, Failure

PRICES = Prices("EUR", {"mira": Price(Decimal("1"), Decimal("2")), "mira-pro-2": Price(Decimal("10"), Decimal("20"))})


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def tick(self, seconds: float) -> None:
        self.now_s += seconds


def answer(prompt: Any = 10, completion: Any = 5, model: str | None = "mira", **more: Any) -> Completion:
    body = {} if model is None else {"model": model}
    return Completion("Hi", "stop", {"prompt_tokens": prompt, "completion_tokens": completion}, body, **more)


def stats(total: int = 100, clock: Clock | None = None, prices: Prices = PRICES) -> Stats:
    return Stats(total, 0, 0, prices, clock or Clock())


# --- counts ---


def test_lines_are_counted_by_how_they_ended() -> None:
    counts = Stats(10, 2, 1)
    counts.add(answer())
    counts.add(Failure.from_error(ServerError("down", 503, 5, 1)))
    counts.add(Failure.from_error(ServerError("down", 503, 5, 1)))
    counts.add(Failure.from_error(Unreachable("reset", None, 5, 2)))

    assert (counts.done, counts.succeeded, counts.failed) == (7, 1, 3)
    assert counts.errors() == "2 server_error (503), 1 unreachable"
    assert counts.unanswered_calls == 4


def test_tokens_and_cost_add_up_for_each_model() -> None:
    counts = stats()
    counts.add(answer(1_000_000, 500_000))
    counts.add(answer(2_000_000, 0, "mira-pro-2"))
    counts.add(Failure.from_error(BadRequest("no", 400, 1, 0)))

    assert (counts.usage.prompt_tokens, counts.usage.completion_tokens) == (3_000_000, 500_000)
    assert counts.usage.cost == 22
    assert counts.models["mira"].cost == 2
    assert counts.models["mira-pro-2"].answers == 1
    assert counts.usage.cost_text("EUR") == "22.00 EUR"


def test_the_answers_model_stands_for_the_one_asked_for_where_only_it_has_a_price() -> None:
    counts = stats()
    counts.add(answer(1_000_000, 0, "mira-pro-2"), "mira-pro")
    counts.add(answer(1_000_000, 0, "mira-1.0"), "mira")

    assert counts.usage.cost == 11
    assert set(counts.models) == {"mira-pro", "mira"}


def test_what_has_no_price_is_said_beside_the_cost() -> None:
    counts = stats()
    counts.add(answer(1_000_000, 0))
    counts.add(answer(1, 1, "another"))
    counts.add(answer(None, None))
    counts.add(answer(1, 1, None))

    assert (counts.usage.cost, counts.usage.unpriced, counts.usage.uncounted) == (Decimal(1), 3, 1)
    assert counts.usage.cost_text("EUR") == "1.00 EUR without 3 answers that have no price"
    assert counts.usage.tokens_text() == "1,000,002 tokens in, 2 out (1 answer not counted)"


def test_without_prices_there_is_no_word_of_cost() -> None:
    counts = stats(prices=Prices())
    counts.add(answer())

    assert counts.usage.cost_text(counts.prices.currency) == ""


def test_a_repeated_line_costs_nothing() -> None:
    counts = stats()
    counts.add(answer(unanswered_calls=1))
    counts.add(answer(unanswered_calls=1), billed=False)

    assert (counts.succeeded, counts.usage.prompt_tokens, counts.unanswered_calls) == (2, 10, 1)


@pytest.mark.parametrize("nonsense", ["12", True, -5, None, [1], 1.5])
def test_a_servers_nonsense_about_tokens_counts_as_nothing(nonsense: Any) -> None:
    counts = stats()
    counts.add(answer(nonsense, nonsense))

    assert (counts.usage.prompt_tokens, counts.usage.completion_tokens, counts.usage.uncounted) == (0, 0, 1)


def test_a_server_that_names_a_new_model_in_each_answer_does_not_fill_the_memory() -> None:
    counts = stats(10_000)
    for number in range(1000):
        counts.add(answer(model=f"model-{number}"))

    assert len(counts.models) == MAX_MODELS + 1
    assert counts.models[OTHER_MODELS].answers == 1000 - MAX_MODELS


# --- rates ---


def go(counts: Stats, clock: Clock, seconds: int, per_second: int) -> None:
    for _ in range(seconds):
        for _ in range(per_second):
            counts.add(answer())
        clock.tick(1)


def test_the_rate_now_is_that_of_the_last_minute_and_the_average_that_of_all() -> None:
    clock = Clock()
    counts = stats(100_000, clock)
    go(counts, clock, 300, 2)
    go(counts, clock, 100, 20)

    assert counts.per_second_now == pytest.approx(20, rel=0.05)
    assert counts.per_second == pytest.approx((600 + 2000) / 400)


def test_the_rate_of_a_young_run_is_that_since_it_began() -> None:
    clock = Clock()
    counts = stats(100, clock)
    go(counts, clock, 4, 5)

    assert counts.per_second_now == counts.per_second == 5


def test_nothing_for_a_minute_is_a_rate_of_nothing_now() -> None:
    clock = Clock()
    counts = stats(1000, clock)
    go(counts, clock, 30, 5)
    clock.tick(120)

    # Asked once in a while, as a display does; the first one may still see the last answers.
    for _ in range(70):
        clock.tick(1)
        now = counts.per_second_now
    assert now == 0
    assert counts.per_second > 0


def test_time_left_follows_the_rate_of_now() -> None:
    clock = Clock()
    counts = stats(2600 + 1200, clock)
    go(counts, clock, 300, 2)
    go(counts, clock, 100, 20)

    assert counts.seconds_left == pytest.approx(60, rel=0.05)


def test_time_left_is_not_known_before_the_first_answer() -> None:
    clock = Clock()
    counts = stats(10, clock)
    clock.tick(5)

    assert counts.seconds_left is None


def test_time_left_of_a_finished_run_is_nothing() -> None:
    clock = Clock()
    counts = stats(10, clock)
    go(counts, clock, 2, 5)

    assert counts.seconds_left == 0


def test_an_hourly_limit_that_lets_calls_go_in_bursts_does_not_promise_the_end_in_a_minute() -> None:
    clock = Clock()
    counts = stats(10_000, clock)
    for _ in range(3):
        go(counts, clock, 10, 100)
        go(counts, clock, 3590, 0)
    go(counts, clock, 10, 100)

    # 6,000 lines are left, a thousand an hour: six hours, and four thousand in three hours is not far from it.
    left_s = counts.seconds_left
    assert left_s is not None
    assert 4 * 3600 < left_s < 7 * 3600


def test_after_an_outage_the_time_left_is_that_of_the_speed_regained() -> None:
    clock = Clock()
    counts = stats(120_000, clock)
    go(counts, clock, 300, 100)
    go(counts, clock, 3600, 0)
    go(counts, clock, 300, 100)

    left_s = counts.seconds_left
    assert left_s is not None
    assert left_s == pytest.approx(600, rel=0.1)


def test_a_meter_is_no_larger_after_a_year() -> None:
    meter = Throughput(0)
    for hour in range(24 * 365):
        meter.add(1000, hour * 3600.0)

    assert len(meter._levels) == LEVELS
    assert max(len(marks) for marks in meter._levels) <= MARKS + 2
    assert meter.average(24 * 365 * 3600.0) == pytest.approx(1000 / 3600)
