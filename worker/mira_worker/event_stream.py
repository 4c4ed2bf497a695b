"""Assemble a streamed response (`stream: true`) into a completion."""

from __future__ import annotations

import re
from typing import Any

import orjson

BOM = b"\xef\xbb\xbf"

# Some servers repeat these in every fragment.
_NOT_JOINED = frozenset({"role", "id", "type", "name"})


# The line that ends a stream.
DONE = re.compile(rb"(?:^|[\r\n])data:[ \t]*\[DONE\][ \t]*(?:[\r\n]|$)")
_STARTS = (b"data:", b"event:", b"id:", b"retry:", b"error:", b":")


class BrokenStream(ValueError):
    """The stream is incomplete, reports an error, or contains something that is not a chunk of a completion.

    `error` is the error that it reports, as the body of a response would. `usage` is what was paid for.
    """

    def __init__(self, why: str, error: Any = None, usage: Any = None) -> None:
        super().__init__(why)
        self.error = error
        self.usage = usage


def is_event_stream(content_type: str, body: bytes = b"") -> bool:
    """Return True for a stream. The beginning of its body decides, because servers confuse the types."""
    start = body[:100].removeprefix(BOM).lstrip()
    if start[:1] in (b"{", b"["):
        return False
    return content_type.partition(";")[0].strip().lower() == "text/event-stream" or start.startswith(_STARTS)


def as_stream(request: bytes) -> bytes:
    """Return a request body that asks for a stream."""
    return orjson.dumps({**orjson.loads(request), "stream": True})


def asks_for_stream(request: bytes) -> bool:
    """Return True if a request body, as `ChatRequest` writes it, asks for a stream.

    A quote inside of a text is escaped. A field of another object with this name does no harm: the server does not
    stream then.
    """
    return b'"stream":true' in request


def has_end(body: bytes) -> bool:
    """Return True if the stream's end marker has arrived, after which nothing that matters follows."""
    return b"[DONE]" in body and DONE.search(body) is not None


def assemble(body: bytes) -> dict[str, Any]:
    """Return the chat.completion in the `data:` lines of server-sent events.

    Deltas of each choice are joined in order. Other fields are taken from the first chunk that has them. The answer is
    complete at `[DONE]`, or if each choice has a finish_reason. Otherwise, BrokenStream is raised.
    """
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    is_error = False
    for line in body.removeprefix(BOM).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n"):
        name, _, data = line.partition(b":")
        data = data.strip()
        if name == b"event":
            is_error = data == b"error"
        elif not line:
            is_error = False
        elif name == b"error" or (name == b"data" and is_error):
            raise BrokenStream("the stream reports an error", _error_of(data), whole.get("usage"))
        elif name == b"data" and data == b"[DONE]":
            return _finished(whole, choices)
        elif name == b"data" and data:
            _add_chunk(whole, choices, data)
    if not choices or not all(choice["finish_reason"] for choice in choices.values()):
        raise BrokenStream("the stream ended before [DONE]", usage=whole.get("usage"))
    return _finished(whole, choices)


def _finished(whole: dict[str, Any], choices: dict[int, dict[str, Any]]) -> dict[str, Any]:
    if not choices:
        raise BrokenStream("the stream contains no choices", usage=whole.get("usage"))
    whole["object"] = "chat.completion"
    whole["choices"] = [choices[index] for index in sorted(choices)]
    return whole


def _error_of(data: bytes) -> Any:
    """Return the error of a line in the form of a body: `{"error": ...}`."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        found = data.decode("utf-8", "replace")
    return found if isinstance(found, dict) and found.get("error") else {"error": found or "error"}


def _add_chunk(whole: dict[str, Any], choices: dict[int, dict[str, Any]], data: bytes) -> None:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenStream("the stream contains a line that is not JSON") from error
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list | None):
        raise BrokenStream("the stream contains something that is not a chunk of a completion")
    if chunk.get("error") or chunk.get("object") == "error":
        raise BrokenStream("the stream reports an error", chunk, chunk.get("usage") or whole.get("usage"))
    for name, value in chunk.items():
        if name == "usage" and value is not None:
            # Servers that repeat it add to it: the last one is that of the whole response.
            whole[name] = value
        elif name != "choices" and value is not None:
            whole.setdefault(name, value)
    for part in chunk.get("choices") or []:
        if not isinstance(part, dict):
            raise BrokenStream("the stream contains a choice that is not an object")
        _add_delta(choices, part)


def _add_delta(choices: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index") or 0
    if not isinstance(index, int):
        raise BrokenStream("the stream contains a choice whose index is not a number")
    empty = {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
    choice = choices.setdefault(index, empty)
    if isinstance(part.get("delta"), dict):
        _join(choice["message"], part["delta"])
    for name in ("finish_reason", "error"):
        if part.get(name):
            choice[name] = part[name]


def _join(whole: dict[str, Any], fragment: dict[str, Any]) -> None:
    """Add a fragment: append text, join objects name by name, and lists item by item."""
    for name, value in fragment.items():
        before = whole.get(name)
        if isinstance(before, str) and isinstance(value, str):
            whole[name] = before if name in _NOT_JOINED and before else before + value
        elif isinstance(before, dict) and isinstance(value, dict):
            _join(before, value)
        elif isinstance(value, list) and all(isinstance(item, dict) and "index" in item for item in value):
            whole[name] = _joined_items(before if isinstance(before, list) else [], value)
        elif isinstance(before, list) and isinstance(value, list):
            whole[name] = before + value
        elif value is not None:
            whole[name] = value


def _joined_items(before: list[Any], fragments: list[dict[str, Any]]) -> list[Any]:
    """Join parts of tool calls, which belong to the call with the same index."""
    items = list(before)
    for fragment in fragments:
        known = next(
            (item for item in items if isinstance(item, dict) and item.get("index") == fragment["index"]), None
        )
        if known is None:
            items.append(dict(fragment))
        else:
            _join(known, fragment)
    return items
