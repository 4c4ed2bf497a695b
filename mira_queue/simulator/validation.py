"""Validation of a body as Mira documents it: it becomes a `Call`, or it is rejected with a reply. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mira_queue.simulator import replies
from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.replies import Rejected

MAX_NESTING = 20
DEFAULT_MAX_TOKENS = 4096
_NULL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # an escaped null byte, not the text of a backslash and u0000


class Message(TypedDict):
    role: Literal["system", "user", "assistant"]
    content: Annotated[str, Field(max_length=32_000)]


class Body(TypedDict):
    """Documented fields of a request. Others are not checked."""

    model: Annotated[str, Field(min_length=1, max_length=64)]
    messages: Annotated[list[Message], Field(min_length=1, max_length=200)]
    temperature: NotRequired[Annotated[float, Field(ge=0, le=2)] | None]
    max_tokens: NotRequired[Annotated[int, Field(ge=1, le=16_384)] | None]
    stream: NotRequired[bool | None]


_BODY = TypeAdapter(Body)


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
        raise _bad("The body is not valid JSON") from None
    # Walk through the body only if it can be deep. Most bodies have few brackets.
    if raw.count(b"{") + raw.count(b"[") > MAX_NESTING and nesting(body) > MAX_NESTING:
        raise _bad(f"JSON nested deeper than {MAX_NESTING}")
    if b"\\u0000" in raw and _NULL.search(raw):
        raise _bad("Null bytes are not allowed")
    try:
        fields = _BODY.validate_python(join_parts(body) if config.content_parts else body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        detail = replies.detail_in_string(422, error="validation_error", field=field, message=first["msg"])
        raise Rejected(detail) from None
    if fields["model"] not in config.models:
        raise _bad(f"Unknown model: {fields['model']}")
    messages = fields["messages"]
    return Call(
        model=fields["model"],
        contents=[each["content"] for each in messages],
        last_user_content=next((each["content"] for each in reversed(messages) if each["role"] == "user"), ""),
        max_tokens=fields.get("max_tokens") or DEFAULT_MAX_TOKENS,
        stream=bool(fields.get("stream")),
        body=body,
    )


def join_parts(value: Any) -> Any:
    """Return the body with the text of each content that is a list of OpenAI parts. Wrong parts stay, and fail."""
    with suppress(TypeError, KeyError):
        match value:
            case {"messages": [*messages]}:
                return value | {"messages": [join_parts(message) for message in messages]}
            case {"content": [*parts]}:
                return value | {"content": "\n".join(part["text"] for part in parts if part["type"] == "text")}
    return value


def nesting(value: Any) -> int:
    """Return the depth of the deepest array or object; a bare value has 0."""
    depth = 0
    level = [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _bad(text: str) -> Rejected:
    return Rejected(replies.detail(400, text))
