"""A request to create a response, as the chat request that it stands for. Pure.

Source: https://platform.openai.com/docs/api-reference/responses/create. Parameters that a chat completion cannot
express are rejected: a response without them would not be what its caller asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mira_producer.gateway.http.errors import ApiError, invalid
from mira_producer.gateway.http.json_body import MAX_WHOLE, whole
from mira_queue.contract.job_options import Priority
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.problem import MISSING_PARAMETER

UNSUPPORTED = "unsupported_parameter"
# What a response object repeats of its request.
_REPEATED = (
    "instructions",
    "max_output_tokens",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "service_tier",
)
_SUPPORTED = frozenset(
    {*_REPEATED, "background", "input", "metadata", "model", "parallel_tool_calls", "store", "stream"}
)
ServiceTier = Literal["auto", "default", "flex", "priority"]
_PRIORITIES: dict[ServiceTier, Priority] = {
    "auto": Priority.NORMAL,
    "default": Priority.NORMAL,
    "flex": Priority.LOW,
    "priority": Priority.HIGH,
}
# A chat API without the role of developers has this one in its place.
_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_TEXT_PARTS = ("input_text", "output_text", "text")


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A chat request, and how it is to be run. `view` is what the response object repeats of the request."""

    body: Mapping[str, Any]
    view: Mapping[str, Any]
    metadata: Mapping[str, str]
    priority: Priority
    is_background: bool
    is_streamed: bool


def parse_response_request(found: Mapping[str, Any]) -> ResponseRequest:
    """Return the meaning of a request body. Raises ApiError with the parameter that is wrong or not supported."""
    given = {name: value for name, value in found.items() if value is not None}
    for name in given:
        if name not in _SUPPORTED:
            raise unsupported(name)
    background, streamed = _flag(given, "background"), _flag(given, "stream")
    stored = _flag(given, "store", default=True)
    if background and not stored:
        raise invalid("store", "a response in the background is stored, so that it can be retrieved")
    if "input" not in given:
        raise invalid("input", "this parameter is required", MISSING_PARAMETER)
    body: dict[str, Any] = {"messages": _messages(given)}
    if "model" in given:
        body["model"] = given["model"]
    if "max_output_tokens" in given:
        body["max_tokens"] = _whole_number(given["max_output_tokens"], "max_output_tokens")
    for name in ("temperature", "top_p"):
        if name in given:
            body[name] = _number(given[name], name)
    if "text" in given:
        body |= _text_format(given["text"])
    tools = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(_list(given.get("tools", []), "tools"))]
    if tools:
        body["tools"] = tools
        if "parallel_tool_calls" in given:
            body["parallel_tool_calls"] = _flag(given, "parallel_tool_calls")
    if "tool_choice" in given:
        choice = _tool_choice(given["tool_choice"])
        if tools:
            body["tool_choice"] = choice
    priority = priority_of(given)
    if "service_tier" in given:
        body["service_tier"] = given["service_tier"]
    if streamed:
        body["stream"] = True
    view = {name: given[name] for name in _REPEATED if name in given}
    view |= {"background": background, "store": stored}
    view |= {"parallel_tool_calls": _flag(given, "parallel_tool_calls", default=True)}
    return ResponseRequest(body, view, checked_metadata(given.get("metadata")), priority, background, streamed)


def priority_of(given: Mapping[str, Any]) -> Priority:
    """Return the priority that the service tier of a request stands for. Raises ApiError for an unknown tier."""
    tier = given.get("service_tier")
    if tier is None:
        return Priority.NORMAL
    for known, priority in _PRIORITIES.items():
        if tier == known:
            return priority
    raise invalid("service_tier", f"expected {', '.join(_PRIORITIES)}")


def unsupported(param: str, reason: str = "a chat completion cannot express this") -> ApiError:
    """Return the error for a parameter that has no counterpart in the chat API."""
    return invalid(param[:200], f"not supported: {reason}", UNSUPPORTED)


def _messages(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    instructions = given.get("instructions")
    if instructions is not None:
        messages.append({"role": "system", "content": _string(instructions, "instructions")})
    content = given["input"]
    if isinstance(content, str):
        return [*messages, {"role": "user", "content": content}]
    items = _list(content, "input")
    if not items:
        raise invalid("input", "expected at least one item")
    for place, item in enumerate(items):
        _add_item(messages, _object(item, f"input[{place}]"), f"input[{place}]")
    return messages


def _add_item(messages: list[dict[str, Any]], item: Mapping[str, Any], path: str) -> None:
    kind = item.get("type", "message")
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise invalid(f"{path}.role", f"expected {', '.join(_ROLES)}")
        messages.append({"role": _ROLES[role], "content": _content(item.get("content"), f"{path}.content")})
    elif kind == "function_call":
        call = {
            "id": _string(item.get("call_id"), f"{path}.call_id"),
            "type": "function",
            "function": {
                "name": _string(item.get("name"), f"{path}.name"),
                "arguments": _string(item.get("arguments"), f"{path}.arguments"),
            },
        }
        last = messages[-1] if messages else {}
        # Calls that the model made together are one message, with the text before them.
        if last.get("role") == "assistant":
            last.setdefault("tool_calls", []).append(call)
        else:
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
    elif kind == "function_call_output":
        call_id = _string(item.get("call_id"), f"{path}.call_id")
        output = _content(item.get("output"), f"{path}.output")
        messages.append({"role": "tool", "tool_call_id": call_id, "content": output})
    else:
        raise unsupported(f"{path}.type", f"an item of the type {str(kind)[:80]!r}")


def _content(content: Any, path: str) -> str | list[dict[str, Any]]:
    """Return the content of a message. Parts that are all texts become one text, which every chat API accepts."""
    if isinstance(content, str):
        return content
    parts = [
        _part(_object(part, f"{path}[{place}]"), f"{path}[{place}]") for place, part in enumerate(_list(content, path))
    ]
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(part: Mapping[str, Any], path: str) -> dict[str, Any]:
    kind = part.get("type")
    if kind in _TEXT_PARTS:
        return {"type": "text", "text": _string(part.get("text"), f"{path}.text")}
    if kind == "refusal":
        return {"type": "text", "text": _string(part.get("refusal"), f"{path}.refusal")}
    if kind == "input_image":
        if part.get("file_id") is not None:
            raise unsupported(f"{path}.file_id", "an image is given as image_url")
        image = {"url": _string(part.get("image_url"), f"{path}.image_url")}
        if part.get("detail") is not None:
            image["detail"] = _string(part["detail"], f"{path}.detail")
        return {"type": "image_url", "image_url": image}
    raise unsupported(f"{path}.type", f"a part of the type {str(kind)[:80]!r}")


def _text_format(text: Any) -> dict[str, Any]:
    for name, value in _object(text, "text").items():
        if name != "format" and value is not None:
            raise unsupported(f"text.{name}")
    format_ = text.get("format")
    if format_ is None:
        return {}
    kind = _object(format_, "text.format").get("type")
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": "json_object"}}
    if kind == "json_schema":
        schema = {name: value for name, value in format_.items() if name != "type"}
        return {"response_format": {"type": "json_schema", "json_schema": schema}}
    raise unsupported("text.format.type", f"the format {str(kind)[:80]!r}")


def _tool(tool: Any, path: str) -> dict[str, Any]:
    kind = _object(tool, path).get("type")
    if kind != "function":
        raise unsupported(f"{path}.type", f"a tool of the type {str(kind)[:80]!r}: only functions are")
    _string(tool.get("name"), f"{path}.name")
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def _tool_choice(choice: Any) -> Any:
    if isinstance(choice, str) and choice in ("none", "auto", "required"):
        return choice
    if isinstance(choice, Mapping) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": _string(choice.get("name"), "tool_choice.name")}}
    raise unsupported("tool_choice", "expected none, auto, required, or a function")


def _flag(given: Mapping[str, Any], name: str, *, default: bool = False) -> bool:
    value = given.get(name, default)
    if not isinstance(value, bool):
        raise invalid(name, "expected true or false")
    return value


def _whole_number(value: Any, name: str) -> int:
    found = whole(value)
    if type(found) is not int or not 1 <= found <= MAX_WHOLE:
        raise invalid(name, f"expected a whole number from 1 to {MAX_WHOLE:,}")
    return found


def _number(value: Any, name: str) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(name, "expected a number")
    return value


def _string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise invalid(path, "expected a text")
    return value


def _list(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(path, "expected a list")
    return value


def _object(value: Any, path: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise invalid(path, "expected an object")
    return value
