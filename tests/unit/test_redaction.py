"""The key in texts of errors and logs: replaced if it cannot be a word, wherever it is in a JSON value."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.redaction import MIN_KEY_CHARS, Redaction, redacted

KEY = "sk-mira-" + "c0ffee" * 6 + "beef"


@pytest.mark.parametrize("key", ["", "1", "test", "ollama", "sk-no-key-required", "internationalization"])
def test_a_key_that_may_be_a_word_is_not_replaced(key: str) -> None:
    text = f'the latest {key}: {{"a": 1}}'

    assert Redaction(key)(text) == text


@pytest.mark.parametrize("key", [KEY, "0" * MIN_KEY_CHARS])
def test_a_key_that_is_too_long_to_be_a_word_is_replaced(key: str) -> None:
    assert Redaction(key)(f"bad key {key}.") == "bad key ***."


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.sampled_from([KEY, f"a {KEY} b", "plain"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", KEY]), inner, max_size=3),
        max_leaves=12,
    )
)
def test_no_string_and_no_name_of_a_json_value_keeps_the_key(value: Any) -> None:
    assert KEY not in repr(redacted(value, Redaction(KEY)))


def test_numbers_and_everything_else_stay_as_they_are() -> None:
    digits = "1234567890123456789012"
    value = {"a": [int(digits), None, True, 1.5, {"b": "c"}]}

    assert redacted(value, Redaction(digits)) == value
    assert orjson.loads(orjson.dumps(redacted({"a": f"x{digits}"}, Redaction(digits)))) == {"a": "x***"}


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(Redaction(KEY))
