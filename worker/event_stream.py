"""A streamed answer (`stream: true`) put together into the completion that it is."""

from __future__ import annotations

from typing import Any

import orjson


class BrokenStream(ValueError):
    """The stream ended without its end, or holds what is no chunk of a completion."""


def is_event_stream(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "text/event-stream"


def assemble(body: bytes) -> dict[str, Any]:
    """One chat.completion from the `data:` lines of server-sent events.

    Deltas of each choice are joined in order; fields that are not ours are taken from the first chunk that has them.
    Raises BrokenStream when `[DONE]` is missing: half an answer is none.
    """
    whole: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for line in body.replace(b"\r\n", b"\n").split(b"\n"):
        if not line.startswith(b"data:"):
            continue
        data = line[5:].strip()
        if data == b"[DONE]":
            if not choices:
                raise BrokenStream("the stream held no choices")
            whole["object"] = "chat.completion"
            whole["choices"] = [choices[index] for index in sorted(choices)]
            return whole
        _add_chunk(whole, choices, data)
    raise BrokenStream("the stream ended before [DONE]")


def _add_chunk(whole: dict[str, Any], choices: dict[int, dict[str, Any]], data: bytes) -> None:
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BrokenStream("the stream holds a line that is no JSON") from error
    if not isinstance(chunk, dict) or not isinstance(chunk.get("choices", []), list):
        raise BrokenStream("the stream holds what is no chunk of a completion")
    for name, value in chunk.items():
        if name != "choices" and value is not None:
            whole.setdefault(name, value)
    for part in chunk.get("choices", []):
        if not isinstance(part, dict):
            raise BrokenStream("the stream holds a choice that is no object")
        _add_delta(choices, part)


def _add_delta(choices: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    index = part.get("index") or 0
    if not isinstance(index, int):
        raise BrokenStream("the stream holds a choice whose index is no number")
    empty = {"index": index, "message": {"role": "assistant", "content": ""}, "finish_reason": None}
    choice = choices.setdefault(index, empty)
    delta = part.get("delta")
    if isinstance(delta, dict):
        message = choice["message"]
        for name, value in delta.items():
            before = message.get(name)
            goes_on = name != "role" and isinstance(value, str | list) and type(before) is type(value)
            if value is not None:
                message[name] = before + value if goes_on else value
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]
