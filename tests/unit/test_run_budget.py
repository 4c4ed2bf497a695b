"""The arithmetic of a budget: promises and uses within its limits, and what lines and outcomes count for."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.cost.budget import Budget, BudgetLimits, Forecast
from mira_producer.cost.prices import Price, Prices
from mira_producer.cost.spending import Spending
from mira_producer.cost.usage import Usage, usage_of_line
from mira_producer.engine.stats import Stats
from mira_producer.jsonl.request_line import InputLine, OpenLine
from mira_producer.jsonl.result_line import calls_of, output_line

from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.request import ChatRequest

PRICES = Prices("USD", {"mira": Price(Decimal(1), Decimal(2)), "mira-max": Price(Decimal(10), Decimal(20))})


def test_lines_are_promised_until_one_does_not_fit_and_again_when_another_has_used_less() -> None:
    budget = Budget(BudgetLimits(max_tokens=100), Usage())

    assert [budget.promise(line, Usage(1, 40)) for line in (1, 2, 3)] == [True, True, False]
    budget.settle(1, Usage(1, 10))
    assert budget.promise(3, Usage(1, 40))
    assert (budget.spent, budget.promised) == (Usage(1, 10), Usage(2, 80))


def test_a_line_that_is_taken_back_leaves_its_room_to_others() -> None:
    budget = Budget(BudgetLimits(max_requests=1), Usage())

    assert budget.promise(1, Usage(1))
    assert not budget.promise(2, Usage(1))
    budget.take_back(1)
    budget.take_back(1)
    assert budget.promise(2, Usage(1))


def test_a_line_that_is_promised_again_counts_once() -> None:
    budget = Budget(BudgetLimits(max_requests=2), Usage())

    assert [budget.promise(1, Usage(1)), budget.promise(1, Usage(1)), budget.promise(2, Usage(1))] == [True, True, True]
    assert budget.promised == Usage(2)


def test_what_earlier_runs_have_used_is_used() -> None:
    assert Budget(BudgetLimits(max_requests=5), Usage(5)).is_spent
    assert not Budget(BudgetLimits(max_requests=5), Usage(4)).promise(1, Usage(2))


def test_a_line_too_large_may_go_alone_once_but_not_when_nothing_is_left() -> None:
    budget = Budget(BudgetLimits(max_tokens=10), Usage())

    assert not budget.promise(1, Usage(1, 500))
    assert budget.promise(1, Usage(1, 500), alone=True)
    assert not budget.promise(2, Usage(1, 500), alone=True)
    budget.settle(1, Usage(1, 10))
    assert not budget.promise(2, Usage(1, 500), alone=True)


@pytest.mark.parametrize(
    ("limits", "use", "reached"),
    [
        (BudgetLimits(), Usage(10**9, 10**12, cost=Decimal(10**9)), []),
        (BudgetLimits(max_requests=3), Usage(3), ["requests"]),
        (BudgetLimits(max_tokens=3), Usage(9, 2), []),
        (BudgetLimits(1, 1, Decimal("0.1")), Usage(1, 1, cost=Decimal("0.1")), ["requests", "tokens", "cost"]),
    ],
)
def test_a_limit_of_which_nothing_is_left_is_named(limits: BudgetLimits, use: Usage, reached: list[str]) -> None:
    assert limits.reached(use) == reached


@given(
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["promise", "settle", "back"]), st.integers(0, 5))),
)
def test_promises_and_uses_never_exceed_a_limit_when_no_promise_was_too_small(
    most: int, steps: list[tuple[int, str, int]]
) -> None:
    budget = Budget(BudgetLimits(max_tokens=most), Usage())
    promised: dict[int, int] = {}
    for line, step, tokens in steps:
        if step == "promise" and line not in promised and budget.promise(line, Usage(1, tokens)):
            promised[line] = tokens
        elif step == "settle" and line in promised:
            budget.settle(line, Usage(1, min(tokens, promised.pop(line))))
        elif step == "back" and promised.pop(line, None) is not None:
            budget.take_back(line)
        assert budget.promised.tokens == sum(promised.values())
        assert budget.spent.tokens + budget.promised.tokens <= most


# --- the forecast ---


def test_before_anything_is_known_an_answer_may_use_all_that_it_is_allowed() -> None:
    assert (Forecast().prompt(7), Forecast().completion(4096)) == (7, 4096)


def test_answers_are_expected_to_be_as_long_as_those_that_came() -> None:
    forecast = Forecast()
    forecast.learn(10, 20, 100)
    forecast.learn(10, 30, 301)

    assert (forecast.prompt(4), forecast.completion(4096), forecast.completion(50)) == (10, 201, 50)


# --- lines and outcomes ---


def line(number: int, max_tokens: int = 4096, size: int = 400) -> InputLine:
    return InputLine(number, str(number), ChatRequest(b"x" * size), None, max_tokens, "")


def answer(prompt: int, completion: int, **fields: Any) -> Completion:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion} if prompt + completion else {}
    return Completion("text" * 10, "stop", usage, {}, **fields)


def open_line(number: int, model: str = "mira") -> OpenLine:
    return OpenLine(number, str(number), size=400, model=model)


def test_the_first_line_goes_alone_when_all_that_it_may_use_is_too_much_and_others_follow_when_it_used_less() -> None:
    budget = Budget(BudgetLimits(max_tokens=1000), Usage())
    spending = Spending(budget, Prices())

    assert [spending.promise(line(1), "mira"), spending.promise(line(2), "mira")] == [True, False]
    spending.settle(open_line(1), answer(100, 50))
    assert [spending.promise(line(number), "mira") for number in range(2, 8)] == [True] * 5 + [False]
    assert (budget.spent.requests, budget.spent.tokens) == (1, 150)


def test_money_is_that_of_the_model() -> None:
    budget = Budget(BudgetLimits(max_cost=Decimal(1)), Usage())
    spending = Spending(budget, PRICES)

    spending.settle(open_line(1), answer(1000, 1000))
    spending.settle(open_line(2, "mira-max"), answer(1000, 1000))

    assert budget.spent.cost == Decimal("0.033")
    assert spending.words() == "the budget is too small for the next line: 0.0330 USD of 1.00 USD"


def test_an_answer_that_says_nothing_of_tokens_counts_as_it_is_long() -> None:
    budget = Budget(BudgetLimits(max_tokens=1000), Usage())

    Spending(budget, Prices()).settle(open_line(1), answer(0, 0))

    assert (budget.spent.requests, budget.spent.tokens) == (1, 100 + 10)


def test_a_call_whose_answer_was_lost_counts_as_if_it_had_been_billed() -> None:
    budget = Budget(BudgetLimits(max_tokens=1000), Usage())
    spending = Spending(budget, Prices())

    spending.settle(open_line(1), answer(100, 50, attempts=1, unanswered_calls=1))

    assert (budget.spent.requests, budget.spent.tokens) == (2, 300)


@pytest.mark.parametrize(
    ("outcome", "calls"),
    [
        (answer(1, 1, attempts=1), 1),
        (answer(1, 1, attempts=3), 3),
        (answer(1, 1, attempts=2, unanswered_calls=1), 2),
        (answer(1, 1, attempts=1, unanswered_calls=1), 2),
        (Failure("unreachable", "", attempts=5, unanswered_calls=5), 5),
        (Failure("bad_request", "", 400, attempts=1), 1),
        (Failure("poison", "", attempts=0, unanswered_calls=3), 3),
        (Failure("invalid_key", ""), 1),
        (Failure("batch_expired", ""), 0),
        (Failure("batch_cancelled", "", unanswered_calls=1), 1),
    ],
)
def test_calls_are_those_that_were_made(outcome: Completion | Failure, calls: int) -> None:
    assert calls_of(outcome) == calls


def before(model: str = "mira", **fields: Any) -> dict[str, Any]:
    body = {"model": model, "usage": {"prompt_tokens": 1000, "completion_tokens": 1000}}
    return {"custom_id": "a", "response": {"status_code": 200, "body": body}, "error": None, **fields}


@pytest.mark.parametrize(
    ("entry", "used"),
    [
        (before(), (1, 2000, Decimal("0.003"))),
        (before(mira={"calls": 3}), (3, 2000, Decimal("0.003"))),
        (before(mira={"calls": 0}), (0, 0, 0)),
        (before(mira={"calls": "many"}), (0, 0, 0)),
        (before(mira="text"), (1, 2000, Decimal("0.003"))),
        (before(model="unknown"), (1, 2000, Decimal("0.03"))),
        ({"custom_id": "a"}, (1, 0, 0)),
        (before(response={"status_code": 200, "body": "text"}), (1, 0, 0)),
        (before(response={"status_code": 200, "body": {"usage": {"prompt_tokens": "many"}}}), (1, 0, 0)),
        (before(response=None, error={"code": "unreachable"}), (1, 0, 0)),
        (before(response=5, error=7), (1, 0, 0)),
    ],
)
def test_a_line_of_an_earlier_run_counts_for_what_it_says(entry: dict[str, Any], used: tuple[Any, ...]) -> None:
    usage = usage_of_line(entry, PRICES)

    assert (usage.requests, usage.tokens, usage.cost) == used


@pytest.mark.parametrize(
    ("outcome", "copy_number", "calls"),
    [
        (answer(1, 1, attempts=3), None, 3),
        (answer(1, 1, attempts=3), 7, 0),
        (Failure("unreachable", "", attempts=5, unanswered_calls=5), None, 5),
        (Failure("batch_expired", "not run"), None, 0),
    ],
)
def test_a_line_says_how_many_calls_it_took(outcome: Completion | Failure, copy_number: int | None, calls: int) -> None:
    written = orjson.loads(output_line("job", "a", outcome, copy_number=copy_number))

    assert usage_of_line(written, PRICES).requests == calls


LOST = {"prompt_tokens": 700, "completion_tokens": 300}


@pytest.mark.parametrize(
    ("outcome", "tokens"),
    [
        (answer(100, 50, attempts=2, lost_usage=LOST), 1150),
        (Failure("broken_answer", "", 200, attempts=1, body={"usage": LOST}, lost_usage=LOST), 1000),
    ],
)
def test_tokens_of_responses_that_could_not_be_used_count_in_budget_line_and_statistics(
    outcome: Completion | Failure, tokens: int
) -> None:
    budget = Budget(BudgetLimits(max_tokens=5000), Usage())
    Spending(budget, PRICES).settle(open_line(1), outcome)
    stats = Stats(1, 0, 0, PRICES)
    stats.add(outcome, "mira")
    if isinstance(outcome, Completion):
        outcome = replace(outcome, body={"usage": outcome.usage, "model": "mira"})
    written = orjson.loads(output_line("job", "a", outcome))

    assert budget.spent.tokens == stats.usage.tokens == usage_of_line(written, PRICES).tokens == tokens
    assert usage_of_line(orjson.loads(output_line("job", "a", outcome, copy_number=2)), PRICES).tokens == 0


def test_a_failed_line_carries_the_id_that_the_server_gave_the_call() -> None:
    failure = Failure("server_error", "no", 500, request_id="req-17")

    assert orjson.loads(output_line("job", "a", failure))["response"]["request_id"] == "req-17"
