"""Cost limits of API keys: no sequence of requests gets more than the limit of a day."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from mira_producer.cost.prices import Price, Prices
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.key_limits import (
    MAX_TRIES,
    additional_cost,
    cost_of_retry,
    explained,
    max_cost,
    max_cost_of_resumed,
    open_lines,
    price_of,
    repeated,
)
from mira_producer.gateway.price_table import PriceTable

from mira_queue.contract.api_key import ApiKey, Scope
from mira_queue.contract.batch import Batch, BatchOptions, BatchOrigin, BatchStatus
from mira_queue.contract.project_limits import NANO, LimitReached, ProjectUsage
from mira_queue.contract.request import ChatRequest

KEY = ApiKey("key_1", "app", Scope.SUBMIT, 1000, max_cost_per_day="10")
UNLIMITED = replace(KEY, max_cost_per_day="")
REQUEST = ChatRequest(b"x" * 400, "mira")
PRICES = Prices("USD", {"mira": Price(Decimal("0.5"), Decimal(2))})


def batch(*, cost: str = "", limit: str = "", is_open: bool = True) -> Batch:
    status = BatchStatus.IN_PROGRESS if is_open else BatchStatus.COMPLETED
    options = BatchOptions(max_cost=limit)
    return Batch("batch_1", status, "a", "here:/a", 1000, options, cost=cost, origin=BatchOrigin("app"))


def used(cost: str = "0", reserved: str = "0") -> ProjectUsage:
    return ProjectUsage(cost=int(Decimal(cost) * NANO), reserved=int(Decimal(reserved) * NANO))


@pytest.mark.parametrize(
    ("asked", "usage", "expected"),
    [
        ("6", used(), "6"),
        ("", used(), "10"),
        ("", used(reserved="6"), "4"),
        ("", used("2.5"), "7.5"),
        ("100", used("0.1", "0.2"), "9.7"),
    ],
)
def test_a_batch_gets_what_it_asks_for_within_what_is_left_of_the_day(
    asked: str, usage: ProjectUsage, expected: str
) -> None:
    assert max_cost(KEY, asked, usage) == expected


def test_a_spent_day_leaves_nothing_for_a_batch_and_the_error_has_both_figures() -> None:
    with pytest.raises(ApiError) as caught:
        max_cost(KEY, "1", used("2.5", "7.5"))

    assert (caught.value.status, caught.value.code, caught.value.kind) == (
        429,
        "max_cost_reached",
        "insufficient_quota",
    )
    assert caught.value.headers == {"x-should-retry": "false"}
    assert "2.5" in caught.value.message
    assert "7.5" in caught.value.message


@pytest.mark.parametrize(
    ("asked", "expected"),
    [("", "7"), ("100", "7"), ("6.5", "6.5"), ("1", "1"), (None, None)],
)
def test_a_resumed_batch_gets_its_own_cost_and_what_is_left(asked: str | None, expected: str | None) -> None:
    paused = batch(cost="4", limit="4")

    assert max_cost_of_resumed(KEY, asked, paused, used("5", "2")) == expected
    assert max_cost_of_resumed(UNLIMITED, asked, paused, used()) == asked


def test_a_batch_of_an_earlier_day_is_resumed_with_its_cost_and_the_new_days_limit() -> None:
    assert max_cost_of_resumed(KEY, "", batch(cost="4", limit="4"), used()) == "14"


def test_a_batch_that_another_key_created_without_a_limit_gets_one_when_it_is_resumed() -> None:
    paused = batch(cost="4")

    assert max_cost_of_resumed(KEY, None, paused, used("4")) == "10"
    assert additional_cost(paused, "10") == 6 * NANO


def test_what_a_batch_has_reserved_itself_is_left_for_it() -> None:
    paused = batch(cost="3", limit="6")

    assert max_cost_of_resumed(KEY, "8", paused, used("3", "5")) == "8"
    assert additional_cost(paused, "8") == 2 * NANO
    assert additional_cost(paused, "5") == 0
    assert (cost_of_retry(replace(paused, status=BatchStatus.COMPLETED)), cost_of_retry(paused)) == (3 * NANO, 0)


def test_nothing_is_left_for_a_larger_budget_of_a_spent_day() -> None:
    with pytest.raises(ApiError) as caught:
        max_cost_of_resumed(KEY, "4", batch(cost="3", limit="3", is_open=False), used("5", "5"))

    assert caught.value.status == 429


def test_a_job_has_a_price_if_its_model_has_one() -> None:
    price = price_of(UNLIMITED, PRICES, REQUEST, {"max_tokens": 1000})

    assert price is not None
    # 100 tokens of the prompt, and at most 1,000 of the answer.
    assert price.per_call == 100 * 500 + 1000 * 2000
    assert price_of(UNLIMITED, Prices(), REQUEST, {}) is None


@pytest.mark.parametrize(
    ("prices", "status", "code"),
    [(Prices(), 500, "no_price_table"), (Prices("USD", {"other": PRICES.models["mira"]}), 400, "model_without_price")],
)
def test_a_cost_that_is_unknown_cannot_be_limited(prices: Prices, status: int, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        price_of(KEY, prices, REQUEST, {})

    assert (caught.value.status, caught.value.code) == (status, code)


def test_lines_are_counted_as_far_as_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_text("{}\n\n" * 20)

    assert [open_lines(replace(KEY, max_open=limit), path) for limit in (0, 5, 20, 100)] == [1, 6, 20, 20]
    assert open_lines(replace(KEY, max_open=5), tmp_path / "missing") == 1


def test_what_another_request_has_taken_is_computed_again_and_open_jobs_are_not() -> None:
    tries = []

    def act() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise LimitReached("cost")
        return len(tries)

    assert repeated(act) == 3
    for limit, expected in (("cost", MAX_TRIES), ("open", 1)):
        tries.clear()

        def refuse(limit: str = limit) -> None:
            tries.append(1)
            raise LimitReached("open" if limit == "open" else "cost")

        with pytest.raises(LimitReached):
            repeated(refuse)
        assert len(tries) == expected


@pytest.mark.parametrize(("limit", "code"), [("open", "max_open_reached"), ("cost", "max_cost_reached")])
def test_a_limit_that_is_reached_is_an_error_that_sdks_do_not_retry(limit: str, code: str) -> None:
    with pytest.raises(ApiError) as caught, explained(replace(KEY, max_open=5), lambda: ProjectUsage(3, 2)):
        raise LimitReached("open" if limit == "open" else "cost")

    assert (caught.value.status, caught.value.code, caught.value.should_retry) == (429, code, False)


def test_a_price_table_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "table.toml"
    text = 'currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = {}\n'
    path.write_text(text.format(2))
    table = PriceTable(path)
    assert table.prices().models["mira"].completion == 2

    path.write_text(text.format("30"))

    assert table.prices().models["mira"].completion == 30


@pytest.mark.parametrize("broken", ["currency = ", "", "[models", "\x00"])
def test_a_table_that_is_wrong_by_now_does_not_replace_the_last_valid_one(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "table.toml"
    valid = 'currency = "USD"\n[models.mira]\nprompt = 1\ncompletion = 2\n'
    path.write_text(valid)
    table = PriceTable(path)

    path.write_text(broken)

    assert table.prices().models["mira"].completion == 2
    assert table.content() == valid.encode()
    path.unlink()
    assert table.prices().currency == "USD"


def test_without_a_valid_table_there_are_no_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = PriceTable()

    (tmp_path / "prices.toml").write_text("currency = ")

    assert (table.prices(), table.content()) == (Prices(), b"")
