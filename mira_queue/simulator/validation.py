"""Validation, before the limits are checked: a body becomes a `Call`, or it is rejected with a reply. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from mira_queue.simulator import replies
from mira_queue.simulator.config import SimulatorConfig

MAX_BODY_BYTES = 12 * 1024 * 1024
MAX_NESTING = 20
MAX_MESSAGES = 200
MAX_CONTENT_CHARS = 32_000
MAX_MODEL_CHARS = 64
MAX_TOKENS = 16_384
DEFAULT_MAX_TOKENS = 4096
ROLES = ("system", "user", "assistant")


class Rejected(Exception):
    """The request is not valid. `reply` is the response."""

    def __init__(self, reply: replies.Reply) -> None:
        super().__init__(reply.body)
        self.reply = reply


@dataclass(slots=True)
class Call:
    """A valid request."""

    model: str
    contents: list[str]
    last_user_content: str
    max_tokens: int
    stream: bool
    body: dict[str, Any]


def read_call(raw: bytes, config: SimulatorConfig) -> Call:
    """Return the call in a body. Raise Rejected with 400 (bad request) or 422 (a field is wrong)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        if b"\x00" in raw:
            raise _bad("Null bytes are not allowed") from None
        if _brackets(raw) > MAX_NESTING and _looks_deep(raw):
            raise _bad(f"JSON nested deeper than {MAX_NESTING}") from None
        raise _bad("The body is not valid JSON") from None
    # Walk through the body only if it can be deep or contain a null byte. Most bodies have few brackets and no \u0000.
    if _brackets(raw) > MAX_NESTING and nesting(body) > MAX_NESTING:
        raise _bad(f"JSON nested deeper than {MAX_NESTING}")
    if b"\\u0000" in raw and _has_null(body):
        raise _bad("Null bytes are not allowed")
    if not isinstance(body, dict):
        raise _invalid("body", "expected an object")
    call = _fields(body, config)
    if call.model not in config.models:
        raise _bad(f"Unknown model: {call.model}")
    return call


def _fields(body: dict[str, Any], config: SimulatorConfig) -> Call:
    model = body.get("model")
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_CHARS:
        raise _invalid("model", f"expected text of 1 to {MAX_MODEL_CHARS} characters")
    messages = body.get("messages")
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise _invalid("messages", f"expected 1 to {MAX_MESSAGES} messages")
    contents = []
    last_user_content = ""
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _invalid(f"messages.{number}", "expected an object")
        role = message.get("role")
        if role not in ROLES:
            raise _invalid(f"messages.{number}.role", f"expected one of {', '.join(ROLES)}")
        content = message.get("content")
        if config.content_parts and isinstance(content, list):
            content = _text_of_parts(content, number)
        if not isinstance(content, str) or len(content) > MAX_CONTENT_CHARS:
            raise _invalid(f"messages.{number}.content", f"expected text of at most {MAX_CONTENT_CHARS} characters")
        contents.append(content)
        if role == "user":
            last_user_content = content
    temperature = body.get("temperature")
    if temperature is not None and not (_is_number(temperature) and 0 <= temperature <= 2):
        raise _invalid("temperature", "expected a number from 0 to 2")
    max_tokens = body.get("max_tokens")
    if max_tokens is None:
        max_tokens = DEFAULT_MAX_TOKENS
    elif type(max_tokens) is not int or not 1 <= max_tokens <= MAX_TOKENS:
        raise _invalid("max_tokens", f"expected a whole number from 1 to {MAX_TOKENS}")
    stream = body.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("stream", "expected true or false")
    return Call(model, contents, last_user_content, max_tokens, bool(stream), body)


def _text_of_parts(parts: list[Any], number: int) -> str:
    texts = []
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("type"), str):
            raise _invalid(f"messages.{number}.content", "expected parts with a type")
        if part["type"] == "text":
            if not isinstance(part.get("text"), str):
                raise _invalid(f"messages.{number}.content", "expected text in a part of type text")
            texts.append(part["text"])
    return "\n".join(texts)


def nesting(value: Any) -> int:
    """Return the depth of the deepest array or object; a bare value has 0."""
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _brackets(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[")


def _looks_deep(raw: bytes) -> bool:
    """Return True if a body that the parser could not read looks nested: it rejects extreme nesting."""
    return raw.count(b"[" * (MAX_NESTING + 1)) > 0 or raw.count(b'{"') > MAX_NESTING


def _has_null(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _has_null(inner) for name, inner in value.items())
    return isinstance(value, list) and any(_has_null(inner) for inner in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _bad(text: str) -> Rejected:
    return Rejected(replies.detail(400, text))


def _invalid(field: str, text: str) -> Rejected:
    return Rejected(replies.detail_in_string(422, error="validation_error", field=field, message=text))
