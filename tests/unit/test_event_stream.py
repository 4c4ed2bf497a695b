"""A streamed answer becomes the completion that it is, or is broken; nothing in between."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_worker.event_stream import BrokenStream, assemble, is_event_stream

DONE = b"data: [DONE]\n\n"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["index", "delta", "content", "role", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
deltas = st.dictionaries(st.sampled_from(["content", "role", "tool_calls", "refusal"]), json_values, max_size=3)
choices = st.fixed_dictionaries(
    {}, optional={"index": json_values, "delta": deltas | json_values, "finish_reason": json_values}
)
chunks = st.fixed_dictionaries({}, optional={"id": json_values, "choices": st.lists(choices, max_size=3) | json_values})


def event(chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def words(*texts: str, index: int = 0) -> list[bytes]:
    return [event({"id": "c", "choices": [{"index": index, "delta": {"content": text}}]}) for text in texts]


def test_deltas_are_joined_into_one_message() -> None:
    body = b"".join(
        [
            event({"id": "chatcmpl-1", "model": "mira", "choices": [{"index": 0, "delta": {"role": "assistant"}}]}),
            *words("Hel", "lo"),
            event({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
            event({"choices": [], "usage": {"total_tokens": 2}}),
            event({"choices": [], "usage": {"total_tokens": 3}}),
            DONE,
        ]
    )

    assert assemble(body) == {
        "id": "chatcmpl-1",
        "model": "mira",
        "object": "chat.completion",
        "usage": {"total_tokens": 3},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    }


def test_choices_are_kept_apart_and_ordered() -> None:
    whole = assemble(b"".join([*words("b", index=1), *words("a"), *words("B", index=1), DONE]))

    assert [choice["message"]["content"] for choice in whole["choices"]] == ["a", "bB"]


def test_comments_blank_lines_and_carriage_returns_are_no_chunks() -> None:
    body = b": keep-alive\r\n\r\nevent: message\r\n" + words("hi")[0].replace(b"\n", b"\r\n") + b"\r\ndata:[DONE]\r\n"

    assert assemble(body)["choices"][0]["message"]["content"] == "hi"


def test_lists_in_deltas_are_joined() -> None:
    calls = [event({"choices": [{"delta": {"tool_calls": [{"id": name}]}}]}) for name in ("a", "b")]

    assert assemble(b"".join([*calls, DONE]))["choices"][0]["message"]["tool_calls"] == [{"id": "a"}, {"id": "b"}]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "before"),
        (b"".join(words("half")), "before"),
        (DONE, "no choices"),
        (event({"error": {"message": "overloaded"}}) + DONE, "error"),
        (b"data: {half\n\n" + DONE, "JSON"),
        (b"data: [1]\n\n" + DONE, "chunk"),
        (event({"choices": {}}) + DONE, "chunk"),
        (event({"choices": ["text"]}) + DONE, "object"),
        (event({"choices": [{"index": "first", "delta": {}}]}) + DONE, "index"),
    ],
)
def test_half_a_stream_is_none(body: bytes, why: str) -> None:
    with pytest.raises(BrokenStream, match=why):
        assemble(body)


@given(st.lists(chunks.map(event) | st.binary(max_size=30), max_size=6), st.booleans())
def test_whatever_the_stream_it_is_a_completion_or_broken(parts: list[bytes], ends: bool) -> None:
    try:
        whole = assemble(b"".join(parts) + (DONE if ends else b""))
    except BrokenStream:
        return
    assert whole["choices"]
    assert orjson.dumps(whole)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_however_a_text_is_cut_it_comes_back_whole(texts: list[str]) -> None:
    assert assemble(b"".join([*words(*texts), DONE]))["choices"][0]["message"]["content"] == "".join(texts)


def test_the_content_type_is_read_without_its_parameters() -> None:
    assert is_event_stream("text/event-stream")
    assert is_event_stream("Text/Event-Stream; charset=utf-8")
    assert not is_event_stream("application/json")
    assert not is_event_stream("")


def test_the_parts_of_a_tool_call_are_put_together_by_its_index() -> None:
    def calls(*parts: dict[str, Any]) -> bytes:
        return event({"choices": [{"index": 0, "delta": {"tool_calls": list(parts)}}]})

    body = b"".join(
        [
            calls({"index": 0, "id": "call-1", "type": "function", "function": {"name": "add", "arguments": ""}}),
            calls({"index": 0, "id": "call-1", "type": "function", "function": {"arguments": '{"a": '}}),
            calls({"index": 1, "id": "call-2", "function": {"name": "now", "arguments": "{}"}}),
            calls({"index": 0, "function": {"arguments": "1}"}}),
            DONE,
        ]
    )

    first, second = assemble(body)["choices"][0]["message"]["tool_calls"]

    assert first == {
        "index": 0, "id": "call-1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}
    }  # fmt: skip
    assert second == {"index": 1, "id": "call-2", "function": {"name": "now", "arguments": "{}"}}
