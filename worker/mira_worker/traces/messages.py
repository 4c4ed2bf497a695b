"""Prompts and answers in the form of OpenTelemetry's conventions. Only called if they are to be recorded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from opentelemetry.util.genai.types import InputMessage, MessagePart, OutputMessage, TextPart, ToolCallRequestPart
from opentelemetry.util.genai.utils import image_from_url


def input_messages(request: Mapping[str, Any]) -> list[InputMessage]:
    """Return the messages of a request."""
    return [InputMessage(str(message["role"]), list(_parts(message))) for message in request["messages"]]


def output_messages(choices: Sequence[Mapping[str, Any]]) -> list[OutputMessage]:
    """Return the messages of an answer, one for each choice."""
    messages = [choice["message"] for choice in choices if isinstance(choice.get("message"), dict)]
    return [OutputMessage(str(message.get("role", "assistant")), list(_parts(message))) for message in messages]


def _parts(message: Mapping[str, Any]) -> Iterator[MessagePart]:
    """Yield the parts of a message that are text, an image, or a call of a tool. Others are left out."""
    content = message.get("content")
    for part in [{"text": content}] if isinstance(content, str) else content if isinstance(content, list) else []:
        match part:
            case {"text": str(text)}:
                yield TextPart(text)
            case {"image_url": {"url": str(url)}} if image := image_from_url(url):
                yield image
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else []:
        match call:
            case {"function": {"name": str(name), "arguments": arguments}}:
                yield ToolCallRequestPart(arguments, name, str(call.get("id", "")))
