"""Assemble a streamed response (`stream: true`) into a completion."""

from __future__ import annotations

from typing import Any

import orjson

# Some servers repeat these in every fragment.
_NOT_JOINED = frozenset({"role", "id", "type", "name"})


class BrokenStream(ValueError):
    """The stream has no end marker, or contains something that is not a chunk of a completion."""


def is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def assemble(body: bytes) -> dict[str, Any]:
    """Return the chat.completion in the `data:` lines of server-sent events.

    Deltas of each choice are joined in order. Other fields are taken from the first chunk that has them.
    Raises BrokenStream if `[DONE]` is missing: the answer is then incomplete.
    """
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            if not choices:
                raise BrokenStream("the stream contains no choices")
            whole["object"] = "chat.completion"
            whole["choices"] = [choices[index] for index in sorted(choices)]
            return whole
        _add_chunk(whole, choices, data)
    raise BrokenStream("the stream ended before [DONE]")


def _add_chunk(whole: dict[str, Any], choices: dict[int, dict[str, Any]], data: bytes) -> None:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenStream("the stream contains a line that is not JSON") from error
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
        raise BrokenStream("the stream contains something that is not a chunk of a completion")
    for name, value in chunk.items():
        if name == "usage" and value is not None:
            # Servers that repeat it add to it: the last one is that of the whole response.
            whole[name] = value
        elif name != "choices" and value is not None:
            whole.setdefault(name, value)
    for part in chunk.get("choices", []):
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
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]


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
