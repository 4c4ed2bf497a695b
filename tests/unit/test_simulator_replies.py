"""What a request body becomes: a refusal by validation, or a completion; and how a Retry-After is written."""

from __future__ import annotations

import math
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mira_queue.simulator.completion import complete
from mira_queue.simulator.config import SimulatorConfig, documented_limits, mira_limits
from mira_queue.simulator.replies import Rejected
from mira_queue.simulator.validation import nesting, read_call
from mira_queue.simulator.wait_headers import RetryAfterForm, forced_retry_after, retry_after

CONFIG = SimulatorConfig()
WALL = 1_800_000_000.25


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"model": "mira", "messages": [{"role": "user", "content": content}]} | fields


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def status_of(raw: Any, config: SimulatorConfig = CONFIG) -> int:
    if not isinstance(raw, bytes):
        raw = orjson.dumps(raw)
    with pytest.raises(Rejected) as rejected:
        read_call(raw, config)
    return rejected.value.reply.status


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b'{"model": "mira", ',
        orjson.dumps(body(model="gpt")),
        orjson.dumps(body("null \x00 byte")),
        orjson.dumps(body(metadata={"\x00": 1})),
        orjson.dumps(body()).replace(b"hi", b"h\x00i"),
        orjson.dumps(body(extra=deep(20))),
        orjson.dumps(body()).replace(b'"hi"', b"[" * 5000 + b"]" * 5000),
    ],
)
def test_a_bad_request_is_a_400(raw: bytes) -> None:
    assert status_of(raw) == 400


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ([], "body"),
        ({"messages": [{"role": "user", "content": "hi"}]}, "model"),
        (body(model=""), "model"),
        (body(model="m" * 65), "model"),
        (body(model=3), "model"),
        ({"model": "mira"}, "messages"),
        (body(messages=[]), "messages"),
        (body(messages=[{"role": "user", "content": "hi"}] * 201), "messages"),
        (body(messages=["hi"]), "messages.0"),
        (body(messages=[{"role": "tool", "content": "hi"}]), "messages.0.role"),
        (body(messages=[{"role": "user"}]), "messages.0.content"),
        (body("x" * 32_001), "messages.0.content"),
        (body([{"type": "text", "text": "hi"}]), "messages.0.content"),
        (body(temperature=2.1), "temperature"),
        (body(temperature=True), "temperature"),
        (body(temperature="hot"), "temperature"),
        (body(max_tokens=0), "max_tokens"),
        (body(max_tokens=16_385), "max_tokens"),
        (body(max_tokens=1.5), "max_tokens"),
        (body(stream="yes"), "stream"),
    ],
)
def test_a_wrong_field_is_a_422_whose_detail_is_json_in_a_string(wrong: Any, field: str) -> None:
    with pytest.raises(Rejected) as rejected:
        read_call(orjson.dumps(wrong), CONFIG)
    assert rejected.value.reply.status == 422
    detail = orjson.loads(orjson.loads(rejected.value.reply.body)["detail"])
    assert detail["error"] == "validation_error"
    assert detail["field"] == field


@pytest.mark.parametrize(
    "good",
    [
        body("x" * 32_000),
        body(messages=[{"role": "user", "content": "hi"}] * 200),
        body(temperature=2, max_tokens=16_384, stream=True),
        body(temperature=None, max_tokens=None, stream=None),
        body(tools=[{"type": "function"}], response_format={"type": "json_object"}, top_p=0.5, stop=["x"]),
        body("the text \\u0000 is not a null byte"),
        body(extra=deep(19)),
        body(model="m" * 64) | {"model": "mira-max"},
    ],
)
def test_what_the_documentation_allows_is_taken(good: dict[str, Any]) -> None:
    assert read_call(orjson.dumps(good), CONFIG).body == good


def test_content_parts_are_taken_only_when_the_server_is_told_to() -> None:
    parts = body([{"type": "text", "text": "one"}, {"type": "image_url"}, {"type": "text", "text": "two"}])
    call = read_call(orjson.dumps(parts), SimulatorConfig(content_parts=True))
    assert call.last_user_content == "one\ntwo"
    assert status_of(body([{"text": "x"}]), SimulatorConfig(content_parts=True)) == 422


@given(
    st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
)
def test_nesting_is_the_depth_of_the_deepest_place(value: Any) -> None:
    def depth(item: Any) -> int:
        if not isinstance(item, list | dict):
            return 0
        inner = item.values() if isinstance(item, dict) else item
        return 1 + max((depth(each) for each in inner), default=0)

    assert nesting(value) == depth(value)


def test_the_answer_quotes_the_last_user_message_and_is_the_same_every_time() -> None:
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "so"},
        {"role": "user", "content": "q"},
    ]
    call = read_call(orjson.dumps(body(messages=messages)), CONFIG)
    answer = orjson.loads(complete(call, 1, 1_700_000_000).to_json())
    assert answer == orjson.loads(complete(call, 1, 1_700_000_000).to_json())
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Simulated answer to: q"}
    assert answer["usage"]["total_tokens"] == answer["usage"]["prompt_tokens"] + answer["usage"]["completion_tokens"]
    assert answer["id"].startswith("chatcmpl-")
    assert answer["object"] == "chat.completion"


def test_an_answer_longer_than_max_tokens_is_cut_and_says_so() -> None:
    call = read_call(orjson.dumps(body("a long question " * 20, max_tokens=3)), CONFIG)
    answer = complete(call, 1, 0)
    assert (answer.completion_tokens, answer.finish_reason) == (3, "length")


@given(st.text(max_size=300))
def test_the_events_of_a_stream_add_up_to_the_whole_answer(content: str) -> None:
    call = read_call(orjson.dumps(body(content.replace("\x00", ""))), CONFIG)
    answer = complete(call, 1, 0)
    chunks = [orjson.loads(event.removeprefix(b"data: ")) for event in answer.to_events()]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == answer.content
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "stop"]
    assert not any("usage" in chunk for chunk in chunks)


@pytest.mark.parametrize(
    ("form", "seconds", "header", "promised"),
    [
        ("auto", 60.0, "60", 60.0),
        ("auto", 0.5, "0.500", 0.5),
        ("integer", 0.5, "1", 1.0),
        ("fraction", 6.0, "6.000", 6.0),
        ("missing", 60.0, None, None),
        ("absurd", 60.0, "99999999999", None),
        ("negative", 0.5, "-1", None),
        ("unix", 0.5, "1800000001", 0.75),
        ("fraction", 3.2171, "3.218", 3.218),
        ("auto", math.inf, None, None),
    ],
)
def test_retry_after_is_written_in_every_form_and_promises_what_it_says(
    form: RetryAfterForm, seconds: float, header: str | None, promised: float | None
) -> None:
    assert retry_after(seconds, form, WALL) == ({} if header is None else {"Retry-After": header}, promised)


@given(st.floats(0, 1e6))
def test_a_retry_after_date_never_promises_less_than_the_seconds(seconds: float) -> None:
    headers, promised = retry_after(seconds, "date", WALL)
    assert promised is not None
    assert seconds - 1e-3 <= promised <= seconds + 1.001
    assert parsedate_to_datetime(headers["Retry-After"]).timestamp() == pytest.approx(WALL + promised)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.2", ({"Retry-After": "0.2"}, 0.2)),
        ("missing", ({}, None)),
        ("soon", ({"Retry-After": "soon"}, None)),
        ("-5", ({"Retry-After": "-5"}, None)),
        ("nan", ({"Retry-After": "nan"}, None)),
    ],
)
def test_a_forced_retry_after_is_sent_as_it_is(text: str, expected: Any) -> None:
    assert forced_retry_after(text, WALL) == expected


@pytest.mark.parametrize("limits", [documented_limits, mira_limits])
def test_the_limits_of_mira_shrink_with_the_scale(limits: Callable[[float], dict[str, Any]]) -> None:
    config = SimulatorConfig.model_validate(limits(0.1) | {"latency_s": "1-3"})
    assert (config.rate, config.rate_window_s) == (60, 6.0)
    assert (config.concurrency, config.concurrency_retry_after_s) == (3, 0.5)
    assert config.latency_s == (1.0, 3.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate": 0},
        {"rate_window_s": 0},
        {"latency_s": "3-1"},
        {"latency_s": "fast"},
        {"faults": {"nonsense": 0.1}},
        {"faults": {"503": 0.7, "reset": 0.7}},
        {"outages": [{"seconds": 1, "kind": "flood"}]},
        {"plans": {"free": []}, "plan": "max"},
        {"unknown": 1},
        {"retry_after_form": "roman"},
        {"limiter": "roman"},
        {"other_calls": "3/0"},
        {"changes": ["5:concurrency=-1"]},
    ],
)
def test_a_wrong_configuration_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SimulatorConfig().changed(wrong)
