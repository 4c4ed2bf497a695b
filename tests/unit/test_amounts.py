"""Amounts as users write them, and as billionths: no text makes a number that cannot be counted."""

from __future__ import annotations

from decimal import Decimal

import pytest
from mira_producer.engine.options import parse_amount
from mira_producer.jsonl.errors import InputError

from mira_queue.contract.api_key import checked_cost
from mira_queue.contract.project_limits import MAX_AMOUNT, NANO, checked_amount, nano
from mira_queue.contract.token_estimate import DEFAULT_MAX_TOKENS, MAX_TOKENS, max_completion_tokens


@pytest.mark.parametrize("text", ["1", "0.50", "1e3", "0.000000000000000001", "1000000000"])
def test_an_amount_within_the_bounds_is_accepted(text: str) -> None:
    assert checked_amount(text) == parse_amount(text) == Decimal(checked_cost(text))


@pytest.mark.parametrize(
    "text",
    ["1e400", "1e999000", "1e999999999", "1" + "0" * 39, "1e10", "1e-19", "1e-999999999", "0", "-1", "inf", "nan", "x"],
)
def test_an_amount_that_cannot_be_counted_is_wrong_input(text: str) -> None:
    for check in (checked_amount, checked_cost):
        with pytest.raises(ValueError, match="amount"):
            check(text)
    with pytest.raises(InputError, match="max-cost"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["1e400", "1e999000", "1e999999999", "inf"])
def test_an_amount_of_an_older_record_is_bounded(text: str) -> None:
    assert nano(Decimal(text)) == MAX_AMOUNT * NANO
    assert nano(Decimal(text).copy_negate()) == -MAX_AMOUNT * NANO
    assert (nano(Decimal("nan")), nano(Decimal("1e-999999999"))) == (0, 0)


@pytest.mark.parametrize(
    ("request_body", "tokens"),
    [
        ({}, DEFAULT_MAX_TOKENS),
        ({"max_tokens": 1000, "max_completion_tokens": 1}, 1000),
        ({"max_tokens": 1, "max_completion_tokens": 1000}, 1000),
        ({"max_tokens": 1000, "n": 3}, 3000),
        ({"n": 2}, 2 * DEFAULT_MAX_TOKENS),
        ({"max_tokens": MAX_TOKENS + 1}, MAX_TOKENS),
        ({"max_tokens": 10, "n": 2**64}, MAX_TOKENS),
        ({"max_tokens": True, "n": "2"}, DEFAULT_MAX_TOKENS),
        ({"max_tokens": 10, "n": 0}, 10),
    ],
)
def test_a_reservation_covers_the_most_that_a_request_may_cost(request_body: dict[str, object], tokens: int) -> None:
    assert max_completion_tokens(request_body) == tokens
