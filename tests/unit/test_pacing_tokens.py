"""Tokens of a call: a guess before it, what the answer says after it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.pacing.tokens import estimated, used

from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def body(**fields: Any) -> bytes:
    return orjson.dumps({"messages": [{"role": "user", "content": "Hello"}], **fields})


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({}, 4096),
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 50}, 50),
        ({"max_tokens": 100, "max_completion_tokens": 50}, 100),
        ({"max_tokens": None}, 4096),
        ({"max_tokens": "100"}, 4096),
    ],
    ids=str,
)
def test_a_call_may_use_its_request_and_the_longest_answer_that_it_allows(fields: dict[str, Any], answer: int) -> None:
    request = body(**fields)

    assert estimated(request) == -(-len(request) // 4) + answer


def test_a_longer_request_uses_more() -> None:
    messages = [{"role": "user", "content": "Hello" * 1000}]

    assert estimated(body(messages=messages)) - estimated(body()) in (4995 // 4, 4995 // 4 + 1)


def test_the_estimate_reads_what_a_worker_is_handed() -> None:
    request = ChatRequest.checked(
        {"messages": [{"role": "user", "content": "ü"}], "max_tokens": 7}, model="mira", limits=MIRA_LIMITS
    )

    assert estimated(request.body) == -(-len(request.body) // 4) + 7


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"total_tokens": 12}, 12),
        ({"total_tokens": 0}, 0),
        ({"total_tokens": -1}, 99),
        ({"total_tokens": "12"}, 99),
        ({"total_tokens": 1.5}, 99),
        ({"total_tokens": None}, 99),
        ({}, 99),
    ],
    ids=str,
)
def test_an_answer_that_does_not_say_has_used_what_was_estimated(usage: dict[str, Any], tokens: int) -> None:
    assert used(usage, 99) == tokens


@given(st.dictionaries(st.sampled_from(["total_tokens", "prompt_tokens"]), json_values), st.integers(0, 10**6))
def test_whatever_an_answer_says_of_its_usage_is_no_error(usage: dict[str, Any], estimate: int) -> None:
    assert used(usage, estimate) >= 0


@given(json_values, json_values)
def test_whatever_a_request_says_of_its_answer_an_estimate_is_no_error(one: Any, other: Any) -> None:
    assert isinstance(estimated(body(max_tokens=one, max_completion_tokens=other)), int)
