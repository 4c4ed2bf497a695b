"""A request to create a response, as a chat request."""

from __future__ import annotations

from typing import Any

import pytest
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.jobs.response_request import ResponseRequest, parse_response_request

from mira_queue import InvalidRequest
from mira_queue.contract.job_options import Priority

IMAGE = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "low"}
FUNCTION = {"type": "function", "name": "look_up", "parameters": {"type": "object"}, "strict": True}


def parsed(**found: Any) -> ResponseRequest:
    return parse_response_request({"input": "Hello", **found})


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ("Hello", [{"role": "user", "content": "Hello"}]),
        ([{"role": "user", "content": "Hello"}], [{"role": "user", "content": "Hello"}]),
        (
            [{"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]}],
            [{"role": "system", "content": "Be brief."}],
        ),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "What is it?"}, IMAGE]}],
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is it?"},
                        {"type": "image_url", "image_url": {"url": IMAGE["image_url"], "detail": "low"}},
                    ],
                }
            ],
        ),
        (
            [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "I look."}]},
                {"type": "function_call", "call_id": "c1", "name": "look_up", "arguments": "{}"},
                {"type": "function_call", "call_id": "c2", "name": "look_up", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "c1", "output": "found"},
            ],
            [
                {
                    "role": "assistant",
                    "content": "I look.",
                    "tool_calls": [
                        {"id": each, "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
                        for each in ("c1", "c2")
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "found"},
            ],
        ),
    ],
)
def test_an_input_becomes_messages(given: Any, messages: list[dict[str, Any]]) -> None:
    assert parsed(input=given).body == {"messages": messages}


def test_every_supported_parameter_has_its_counterpart() -> None:
    schema = {"name": "answer", "schema": {"type": "object"}, "strict": True}
    found = parsed(
        model="mira",
        instructions="Be brief.",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.25,
        text={"format": {"type": "json_schema", **schema}},
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "look_up"},
        parallel_tool_calls=False,
        service_tier="flex",
        metadata={"tenant": "7"},
        background=True,
        user=None,
    )

    assert found.body == {
        "model": "mira",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.25,
        "response_format": {"type": "json_schema", "json_schema": schema},
        "tools": [{"type": "function", "function": {name: FUNCTION[name] for name in FUNCTION if name != "type"}}],
        "tool_choice": {"type": "function", "function": {"name": "look_up"}},
        "parallel_tool_calls": False,
        "service_tier": "flex",
    }
    assert (found.priority, found.metadata, found.is_background) == (Priority.LOW, {"tenant": "7"}, True)
    assert found.view["instructions"] == "Be brief."


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"reasoning": {"effort": "low"}}, "reasoning"),
        ({"truncation": "auto"}, "truncation"),
        ({"text": {"verbosity": "low"}}, "text.verbosity"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"tools": [FUNCTION, {"type": "web_search"}]}, "tools[1].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0].type"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"input": [{"role": "user", "content": [{**IMAGE, "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    ],
)
def test_what_a_chat_completion_cannot_express_is_rejected_by_name(given: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as rejected:
        parsed(**given)

    assert (rejected.value.status, rejected.value.code, rejected.value.param) == (400, "unsupported_parameter", param)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": [7]}, "input[0]"),
        ({"input": [{"role": "robot", "content": "Hello"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{"type": "function_call", "call_id": 1}]}, "input[0].call_id"),
        ({"background": "yes"}, "background"),
        ({"background": True, "store": False}, "store"),
        ({"temperature": "hot"}, "temperature"),
        ({"service_tier": "gold"}, "service_tier"),
        ({"instructions": ["Be brief."]}, "instructions"),
        ({"tools": [], "tool_choice": "auto"}, None),
        ({"tools": {}, "tool_choice": "auto"}, "tools"),
        ({"input": []}, "input"),
        ({"service_tier": ""}, "service_tier"),
        ({"max_output_tokens": 1.5}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"tools": [7]}, "tools[0]"),
    ],
)
def test_a_wrong_value_is_rejected_by_name(given: dict[str, Any], param: str | None) -> None:
    if param is None:
        assert "tool_choice" not in parsed(**given).body
        return
    with pytest.raises(ApiError) as rejected:
        parsed(**given)

    assert (rejected.value.status, rejected.value.param) == (400, param)


def test_metadata_has_openais_limits() -> None:
    with pytest.raises(InvalidRequest):
        parsed(metadata={"k": "v" * 513})
