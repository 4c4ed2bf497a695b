"""Bodies as Mira's real backend checks them: by bytes, and less strictly than documented. Pure."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mira_queue.simulator import replies
from mira_queue.simulator.config import SimulatorConfig
from mira_queue.simulator.replies import Rejected, Reply
from mira_queue.simulator.validation import DEFAULT_MAX_TOKENS, MAX_NESTING, Call, join_parts

MAX_CONTENT_BYTES = 32_000
MAX_MESSAGES = 200
MAX_TOKENS = 16_384
_OPENING, _CLOSING = b"[{", b"]}"
_NO_BRACKETS = bytes(code for code in range(256) if code not in _OPENING + _CLOSING)


class Message(TypedDict):
    role: str
    content: str


class Body(TypedDict):
    """Fields that the backend reads. It checks no range and no role."""

    model: str
    messages: list[Message]
    temperature: NotRequired[float]
    max_tokens: NotRequired[Annotated[int, Field(ge=0)] | None]
    stream: NotRequired[bool]


_BODY = TypeAdapter(Body)


def check_bytes(raw: bytes) -> None:
    """Raise Rejected for a raw null byte, and for brackets nested too deeply. Those in text count, too."""
    if b"\0" in raw:
        raise Rejected(replies.detail(400, "Null bytes are not allowed"))
    depth = 0
    for bracket in raw.translate(None, _NO_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > MAX_NESTING:
            raise Rejected(replies.detail(400, f"JSON nested deeper than {MAX_NESTING}"))


def read_call(raw: bytes, config: SimulatorConfig) -> Call:
    """Return the call in a body. Raise Rejected with 400 (not JSON, unknown model) or 422 (a field is wrong)."""
    try:
        body: Any = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _plain(400, f"Failed to parse the request body as JSON: {error}") from None
    try:
        fields = _BODY.validate_python(join_parts(body) if config.content_parts else body, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "body"
        raise _plain(422, f"Failed to deserialize the JSON body: {field}: {first['msg']}") from None
    messages = fields["messages"]
    if len(messages) > MAX_MESSAGES or any(len(each["content"].encode()) > MAX_CONTENT_BYTES for each in messages):
        quoted = f"messages: validation error: length {orjson.dumps({'value': messages}).decode()}"
        raise Rejected(replies.detail(422, quoted), is_from_handler=True)
    if fields["model"] not in config.models:
        raise Rejected(replies.detail(400, f"Unknown model: {fields['model']}"), is_from_handler=True)
    # The model never sees system messages and null bytes.
    contents = [(each["role"], each["content"].replace("\0", "")) for each in messages if each["role"] != "system"]
    return Call(
        model=fields["model"],
        contents=[content for _, content in contents],
        last_user_content=next((content for role, content in reversed(contents) if role == "user"), ""),
        max_tokens=min(fields.get("max_tokens") or DEFAULT_MAX_TOKENS, MAX_TOKENS),
        stream=fields.get("stream", False),
        body=body,
    )


def _plain(status: int, text: str) -> Rejected:
    return Rejected(Reply(status, text.encode(), replies.TEXT))
