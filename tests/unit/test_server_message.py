"""What a server said is shown without the prompt."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.server_message import BEGINS, MAX_CHARS, QUOTES_THE_REQUEST, quotes_prompt, server_message

from mira_queue.contract.errors import InvalidResponse, RateLimited, Unprocessable, Unreachable

PROMPT = "Summarize the merger of Alpha and Omega before Tuesday"


def request(*contents: Any) -> bytes:
    return orjson.dumps(
        {"model": "mira-thinking", "messages": [{"role": "user", "content": each} for each in contents]}
    )


@pytest.mark.parametrize(
    "text",
    [
        f"invalid: {PROMPT}",
        "near 'merger of Alpha and Omega before'",
        json.dumps({"input": [{"content": PROMPT}]}),
        json.dumps(json.dumps({"content": PROMPT})),
        PROMPT.upper(),
        PROMPT.replace(" ", "\\n"),
    ],
)
def test_a_message_that_quotes_the_prompt_is_replaced(text: str) -> None:
    assert quotes_prompt(text, request("Hello", PROMPT))
    assert QUOTES_THE_REQUEST in server_message(Unprocessable(text, 422), request("Hello", PROMPT))


def test_escaped_letters_of_another_alphabet_are_a_quotation_too() -> None:
    prompt = "Кто написал этот секретный отчёт о слиянии?"

    assert quotes_prompt(json.dumps({"input": prompt}), request(prompt))
    assert quotes_prompt(json.dumps({"input": prompt}), request([{"type": "text", "text": prompt}]))


@pytest.mark.parametrize("prompt", ["Hi", "Hello", PROMPT, "Why is the sky blue?"])
def test_the_server_s_own_words_are_shown(prompt: str) -> None:
    limit = RateLimited("Rate limit exceeded, retry after 60 seconds", 429)

    assert server_message(limit, request(prompt)) == "HTTP 429: Rate limit exceeded, retry after 60 seconds"
    assert server_message(Unreachable("no connection"), request(prompt)) == "no connection"
    assert not quotes_prompt("unknown model mira-thinking", request(prompt))


def test_a_part_of_an_answer_is_left_out() -> None:
    broken = InvalidResponse(f"the model failed{BEGINS}The patient", 200)

    assert server_message(broken, request("Hi")) == "HTTP 200: the model failed"


@given(st.text(max_size=2000), st.binary(max_size=50) | st.text().map(request))
def test_a_message_is_one_short_line_without_control_characters(text: str, sent: bytes) -> None:
    message = server_message(RateLimited(text, 429), sent)

    assert len(message) <= MAX_CHARS
    assert not any(ord(letter) < 0x20 or 0x7F <= ord(letter) < 0xA0 for letter in message)


@given(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=30, max_size=80), st.data())
def test_any_long_part_of_a_prompt_is_a_quotation(prompt: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(prompt) - 24))

    assert quotes_prompt(f"bad value <{prompt[start : start + 24]}>", request(prompt))
