"""A chat request: refused with its field named, or passed through untouched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS, NO_LIMITS, RequestLimits, limits_named

HELLO = {"role": "user", "content": "Hello"}
TEXT = {"type": "text", "text": "Hello"}

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=20
)
# Near enough to a request for every check to be reached.
almost_content = json_values | st.lists(
    st.fixed_dictionaries({}, optional={"type": st.sampled_from(["text", "image_url"]) | scalars, "text": json_values})
)
almost_messages = st.lists(
    st.fixed_dictionaries(
        {}, optional={"role": st.sampled_from(["user", "assistant", "nobody"]) | scalars, "content": almost_content}
    )
    | json_values,
    max_size=4,
)
almost_requests = st.fixed_dictionaries(
    {},
    optional={
        "messages": almost_messages | json_values,
        "model": json_values,
        "temperature": json_values,
        "max_tokens": json_values,
        "stream": json_values,
        "tools": json_values,
    },
)
good_messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant", "tool"]),
            "content": st.text(st.characters(exclude_characters="[{", codec="utf-8")),
        }
    ),
    max_size=5,
)
no_null = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
good_requests = st.fixed_dictionaries(
    {"messages": good_messages},
    optional={
        "model": st.sampled_from(["mira", "mira-max", "of next year"]),
        "temperature": st.floats(-9, 9),
        "max_tokens": st.integers(0, 10**6) | st.none(),
        "stream": st.booleans(),
        "top_p": no_null,
        "response_format": no_null,
        "tools": no_null,
    },
)


def checked(limits: RequestLimits = MIRA_LIMITS, **fields: Any) -> ChatRequest:
    return ChatRequest.checked(fields, model="mira", limits=limits)


def refusal(limits: RequestLimits = MIRA_LIMITS, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refused:
        checked(limits, **fields)
    return refused.value


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


@given(json_values | almost_requests, st.sampled_from([MIRA_LIMITS, NO_LIMITS]))
def test_whatever_json_comes_it_is_taken_or_refused_with_a_field(fields: Any, limits: RequestLimits) -> None:
    request, refused = None, None
    try:
        request = ChatRequest.checked(fields, model="mira", limits=limits)
    except InvalidRequest as error:
        refused = error
    if request is None:
        assert refused is not None
        assert refused.field
        assert refused.reason
        return
    default = {} if fields.get("model") is not None else {"model": "mira"}
    assert orjson.loads(request.body) == {**fields, **default}


@given(good_requests)
@example({"messages": [HELLO], "n": 3, "stop": ["a", None], "logit_bias": {"50256": -100.5}})
def test_a_good_request_passes_through_untouched(fields: dict[str, Any]) -> None:
    request = ChatRequest.checked(fields, model="default", limits=MIRA_LIMITS)

    assert orjson.loads(request.body) == {"model": "default", **fields}


def test_fields_keep_the_order_that_the_caller_gave() -> None:
    request = checked(messages=[HELLO], zebra=1, apple=2)

    assert list(orjson.loads(request.body)) == ["model", "messages", "zebra", "apple"]


def test_the_same_request_has_the_same_digest_and_another_has_another() -> None:
    assert checked(messages=[HELLO]).digest == checked(messages=[dict(HELLO)]).digest
    assert checked(messages=[HELLO]).digest != checked(messages=[HELLO], temperature=1).digest


def test_a_model_that_is_named_wins_over_the_default() -> None:
    assert orjson.loads(checked(messages=[HELLO], model="mira-max").body)["model"] == "mira-max"
    assert orjson.loads(checked(messages=[HELLO], model=None).body)["model"] == "mira"


@pytest.mark.parametrize("text", ["{}" * 500 + "[" * 20, "null", r"\u0000", "NaN"])
def test_a_text_that_looks_like_a_fault_is_none(text: str) -> None:
    assert orjson.loads(checked(messages=[{"role": "user", "content": text}]).body)["messages"][0]["content"] == text


@pytest.mark.parametrize(
    "fits",
    [
        {"messages": [HELLO] * 200},
        {"messages": [{"role": "user", "content": "x" * 32_000}]},
        {"messages": [{"role": "user", "content": "ы" * 16_000}]},
        {"messages": []},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": "a\0b"}]},
        {"messages": [HELLO], "tools": [{"name": "\0"}]},
        {"messages": [{"role": "user", "content": "[" * 20}]},
        {"messages": [{"role": "user", "content": "[{" * 9 + "]" * 18}, {"role": "user", "content": "{" * 20}]},
        {"messages": [HELLO], "model": "m" * 64},
        {"messages": [HELLO], "temperature": 0},
        {"messages": [HELLO], "temperature": 2.5},
        {"messages": [HELLO], "temperature": -1},
        {"messages": [HELLO], "max_tokens": 1},
        {"messages": [HELLO], "max_tokens": 1_000_000},
        {"messages": [HELLO], "deep": nested(19)},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [HELLO], "max_tokens": None},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_what_stands_at_a_limit_fits(fits: dict[str, Any]) -> None:
    assert orjson.loads(checked(**fits).body) == {"model": "mira", **fits}


@pytest.mark.parametrize(
    ("field", "reason", "fields"),
    [
        ("messages", "missing", {}),
        ("messages", "missing", {"messages": None}),
        ("messages", "expected a list, got a string", {"messages": "Hello"}),
        ("messages", "expected a list, got an object", {"messages": HELLO}),
        ("messages", "201 messages, over the limit of 200", {"messages": [HELLO] * 201}),
        ("messages[1]", "expected an object", {"messages": [HELLO, "Hello"]}),
        ("messages[0].role", "expected a string, got null", {"messages": [{"content": "x"}]}),
        ("messages[0].content", "missing", {"messages": [{"role": "user"}]}),
        ("messages[0].content", "missing", {"messages": [{"role": "user", "content": None}]}),
        ("messages[0].content", "got a number", {"messages": [{"role": "user", "content": 1}]}),
        ("messages[0].content", "an empty list", {"messages": [{"role": "user", "content": []}]}),
        ("messages[0].content", "32,001 bytes", {"messages": [{"role": "user", "content": "x" * 32_001}]}),
        ("messages[0].content", "34,000 bytes", {"messages": [{"role": "user", "content": "ы" * 17_000}]}),
        ("messages[0].content", "content parts", {"messages": [{"role": "user", "content": [TEXT]}]}),
        ("messages[0].content", "20 brackets", {"messages": [{"role": "user", "content": "[{" * 10 + "["}]}),
        ("messages[1].content", "20 brackets", {"messages": [{"role": "user", "content": "}" + "[" * 15}] * 2}),
        ("temperature", "null", {"messages": [HELLO], "temperature": None}),
        ("stream", "null", {"messages": [HELLO], "stream": None}),
        ("model", "65 characters, over the limit of 64", {"messages": [HELLO], "model": "m" * 65}),
        ("model", "empty string", {"messages": [HELLO], "model": ""}),
        ("model", "got a number", {"messages": [HELLO], "model": 4}),
        ("temperature", "number", {"messages": [HELLO], "temperature": True}),
        ("temperature", "number", {"messages": [HELLO], "temperature": "hot"}),
        ("temperature", "number", {"messages": [HELLO], "temperature": float("nan")}),
        ("max_tokens", "whole number", {"messages": [HELLO], "max_tokens": -1}),
        ("max_tokens", "whole number", {"messages": [HELLO], "max_tokens": 10.5}),
        ("stream", "true or false", {"messages": [HELLO], "stream": "yes"}),
        ("deep", "nested deeper than 20 levels", {"messages": [HELLO], "deep": nested(20)}),
        ("body", "cannot be written as JSON", {"messages": [HELLO], "user": "\ud800"}),
        ("body", "cannot be written as JSON", {"messages": [HELLO], "user": object()}),
        ("body", "cannot be written as JSON", {"messages": [HELLO], "seed": 2**64}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_the_api_would_refuse_is_refused_with_its_field(field: str, reason: str, fields: dict[str, Any]) -> None:
    refused = refusal(**fields)

    assert refused.field == field
    assert reason in refused.reason
    assert str(refused) == f"{field}: {refused.reason}"


def test_the_body_may_have_two_mib_and_not_one_byte_more() -> None:
    frame = len(checked(messages=[HELLO], padding="").body)
    room = 2 * 1024 * 1024 - frame

    assert len(checked(messages=[HELLO], padding="x" * room).body) == 2 * 1024 * 1024
    refused = refusal(messages=[HELLO], padding="x" * (room + 1))
    assert (refused.field, refused.reason) == ("body", "2,097,153 bytes, over the limit of 2,097,152")


@pytest.mark.parametrize(
    ("field", "reason", "content"),
    [
        ("messages[0].content[0]", "content part", ["Hello"]),
        ("messages[0].content[1].text", "expected a string", [{"type": "text", "text": ""}, {"type": "text"}]),
    ],
)
def test_content_parts_are_checked_for_servers_that_take_them(field: str, reason: str, content: Any) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert checked(NO_LIMITS, messages=[{"role": "user", "content": [TEXT, image]}])

    refused = refusal(NO_LIMITS, messages=[{"role": "user", "content": content}])

    assert refused.field == field
    assert reason in refused.reason


def test_what_is_no_object_is_no_request() -> None:
    for thing in (None, 1, "text", [HELLO], timedelta(1)):
        with pytest.raises(InvalidRequest, match="expected a JSON object"):
            ChatRequest.checked(thing, model="mira", limits=MIRA_LIMITS)  # type: ignore[arg-type]


def test_a_structure_that_contains_itself_is_refused_under_any_limits() -> None:
    endless: list[Any] = []
    endless.append(endless)

    assert refusal(messages=[HELLO], loop=endless).field == "loop"
    assert refusal(NO_LIMITS, messages=[HELLO], loop=endless).field == "loop"


def test_lifted_limits_let_other_servers_decide() -> None:
    fields = {
        "model": "m" * 300,
        "messages": [
            {"role": "tool", "tool_call_id": "1"},
            {"role": "user", "content": "x" * 100_000 + "\0"},
            *[HELLO] * 300,
        ],
        "temperature": 9,
        "max_tokens": 10**6,
        "deep": nested(NO_LIMITS.max_nesting - 1),
    }

    assert orjson.loads(checked(NO_LIMITS, **fields).body) == fields
    assert refusal(NO_LIMITS, messages=[]).field == "messages"
    assert refusal(NO_LIMITS, messages=[HELLO], deep=nested(NO_LIMITS.max_nesting)).field == "deep"


def test_the_setting_names_its_limits() -> None:
    assert limits_named("mira") is MIRA_LIMITS
    assert limits_named("none") is NO_LIMITS


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_json_has_not_is_refused_not_sent_as_null(number: float) -> None:
    with pytest.raises(InvalidRequest, match=r"logit_bias\.a: .*number"):
        checked(messages=[HELLO], logit_bias={"a": number})
