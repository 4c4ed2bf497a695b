"""A chat completion that is sent in chunks, as OpenAI's SDKs read them. Pure.

Chunks of the first attempt are passed on as they arrive. If that attempt fails, a later one answers: then the text that
the client has must be the beginning of the outcome, and the client gets the rest; otherwise it gets an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mira_producer.gateway.http.errors import ApiError
from mira_queue.contract.outcome import Completion

DONE = b"[DONE]"


def diverged() -> ApiError:
    """Return the error of a stream whose attempt failed after some chunks."""
    return ApiError(
        502,
        "the server failed in the middle of its answer, and another attempt answered differently: retrieve the "
        "completion by its id",
        code="stream_interrupted",
    )


class StreamedCompletion:
    """Part of a stream that one client has received so far. `an_id` replaces the id that the server gave."""

    def __init__(self, an_id: str, *, include_usage: bool = False) -> None:
        self._id = an_id
        self._include_usage = include_usage
        self._epoch = ""
        self._text = ""
        self._has_more_than_text = False
        self._finished: set[int] = set()
        self._has_usage = False
        self._is_interrupted = False

    def add(self, epoch: str, data: bytes) -> bytes:
        """Return a published chunk as the client gets it; empty if it belongs to another attempt."""
        if epoch != self._epoch:
            self._is_interrupted = bool(self._epoch) and self._has_content
            self._epoch = self._epoch if self._is_interrupted else epoch
        if self._is_interrupted:
            return b""
        chunk = orjson.loads(data)
        chunk["id"] = self._id
        self._has_usage |= bool(chunk.get("usage"))
        for choice in chunk["choices"]:
            if isinstance(choice, dict):
                self._note(choice)
        return orjson.dumps(chunk)

    def rest(self, completion: Completion) -> Iterator[bytes]:
        """Yield what the client lacks of the outcome, and the end marker. Raises ApiError if it has something else."""
        choices = [choice for choice in completion.body.get("choices") or [] if isinstance(choice, dict)]
        if self._is_interrupted or len(self._finished) < max(1, len(choices)):
            yield from self._missing(completion, choices)
        if self._include_usage and not self._has_usage and completion.usage:
            yield self._chunk(completion, [], usage=completion.usage)
        yield DONE

    @property
    def _has_content(self) -> bool:
        return bool(self._text) or self._has_more_than_text

    def _note(self, choice: Mapping[str, Any]) -> None:
        index = choice.get("index") or 0
        delta = choice.get("delta")
        for name, value in (delta if isinstance(delta, dict) else {}).items():
            if name == "content" and isinstance(value, str) and index == 0:
                self._text += value
            elif name != "role" and value:
                self._has_more_than_text = True
        if choice.get("finish_reason"):
            self._finished.add(index)

    def _missing(self, completion: Completion, choices: list[dict[str, Any]]) -> Iterator[bytes]:
        whole = completion.text
        if self._has_more_than_text or not whole.startswith(self._text):
            raise diverged()
        for choice in choices:
            index, message = choice.get("index") or 0, choice.get("message")
            delta = dict(message) if isinstance(message, dict) else {}
            if index == 0 and self._text:
                # The role, and all but the rest of the text, were sent.
                delta = {name: value for name, value in delta.items() if name not in ("role", "content")}
                delta["content"] = whole[len(self._text) :]
            if isinstance(delta.get("tool_calls"), list):
                delta["tool_calls"] = [
                    {"index": place, **call} if isinstance(call, dict) else call
                    for place, call in enumerate(delta["tool_calls"])
                ]
            yield self._chunk(completion, [{"index": index, "delta": delta, "finish_reason": None}])
            reason = choice.get("finish_reason") or "stop"
            yield self._chunk(completion, [{"index": index, "delta": {}, "finish_reason": reason}])

    def _chunk(self, completion: Completion, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return orjson.dumps(
            {
                "id": self._id,
                "object": "chat.completion.chunk",
                "created": completion.body.get("created") or 0,
                "model": completion.body.get("model") or "",
                "choices": choices,
                **more,
            }
        )
