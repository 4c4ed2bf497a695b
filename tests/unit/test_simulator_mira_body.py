"""Bodies as Mira's real backend reads them: brackets of the whole body, and bytes instead of characters."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.mira_body import MAX_CONTENT_BYTES, check_bytes, read_call
from mira_queue.simulator.replies import Rejected
from mira_queue.simulator.validation import Call

CONFIG = SimulatorConfig(backend="mira")


def body(content: Any, **fields: Any) -> bytes:
    return orjson.dumps({"model": "mira", "messages": [{"role": "user", "content": content}]} | fields)


def checked(raw: bytes) -> Call:
    check_bytes(raw)
    return read_call(raw, CONFIG)


def status_of(raw: bytes) -> int:
    with pytest.raises(Rejected) as rejected:
        checked(raw)
    return rejected.value.reply.status


@given(st.text(alphabet='[]{}a"\\я'))
def test_brackets_count_wherever_they_are(text: str) -> None:
    raw, depth, deepest = body(text), 0, 0
    for byte in raw:
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)

    if deepest > 20:
        assert status_of(raw) == 400
    else:
        check_bytes(raw)


@given(st.integers(0, 32_001), st.integers(0, 16_001))
def test_content_is_measured_in_bytes(latin: int, cyrillic: int) -> None:
    text = "a" * latin + "я" * cyrillic
    if len(text.encode()) > MAX_CONTENT_BYTES:
        assert status_of(body(text)) == 422
    else:
        assert read_call(body(text), CONFIG).contents == [text]


@given(st.binary(max_size=200))
def test_any_bytes_are_a_call_or_rejected(raw: bytes) -> None:
    assert status_of(raw) in (400, 422)


def test_more_than_two_hundred_messages_are_rejected_and_quoted() -> None:
    messages = [{"role": "user", "content": f"number {number}"} for number in range(201)]
    with pytest.raises(Rejected, match="number 200"):
        read_call(orjson.dumps({"model": "mira", "messages": messages}), CONFIG)


def test_max_tokens_is_capped() -> None:
    assert read_call(body("hi", max_tokens=1_000_000), CONFIG).max_tokens == 16_384
