"""Answers. They depend on the request alone, so that two runs give the same text. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import orjson

from mira_queue.simulator.validation import Call

QUOTED_CHARS = 200
CHARS_PER_TOKEN = 4
DONE = b"data: [DONE]\n\n"
QUEUE_FULL = b'data: {"error": {"code": "queue_full", "message": "The queue of the model is full"}}\n\n'
# Content of a 200 when the model of Mira's real backend has failed: at once, partway, or without a word.
MODEL_FAILURES = {
    "modelerror": "Ошибка: Stream request failed: error sending request",
    "modelbreak": "Ошибка: Stream read error",
    "modelempty": "",
}
_WORD = re.compile(r"\s*\S+|\s+")


@dataclass(frozen=True, slots=True)
class Completion:
    """Answer to one call."""

    id: str
    created: int
    model: str
    content: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    def to_json(self) -> bytes:
        message = {"role": "assistant", "content": self.content}
        whole = self._object("chat.completion", {"index": 0, "message": message, "finish_reason": self.finish_reason})
        whole["usage"] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        }
        return orjson.dumps(whole)

    def to_events(self, *, with_role: bool = True) -> Iterator[bytes]:
        """Yield server-sent events: role, words, finish reason. There is no usage, and no final [DONE]."""
        if with_role:
            yield self._event({"role": "assistant", "content": ""}, None)
        for word in _WORD.findall(self.content):
            yield self._event({"content": word}, None)
        yield self._event({}, self.finish_reason)

    def _event(self, delta: dict[str, str], finish_reason: str | None) -> bytes:
        chunk = self._object("chat.completion.chunk", {"index": 0, "delta": delta, "finish_reason": finish_reason})
        return b"data: " + orjson.dumps(chunk) + b"\n\n"

    def _object(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": [choice]}


def complete(call: Call, number: int, created: int) -> Completion:
    """Return the answer to `call`. `number` makes its id; `created` is in Unix seconds."""
    content = "Simulated answer to: " + call.last_user_content[:QUOTED_CHARS]
    finish_reason = "stop"
    completion_tokens = tokens(content)
    if completion_tokens > call.max_tokens:
        content = content[: call.max_tokens * CHARS_PER_TOKEN]
        completion_tokens = call.max_tokens
        finish_reason = "length"
    prompt_tokens = sum(tokens(text) for text in call.contents)
    return Completion(
        f"chatcmpl-{number:024x}", created, call.model, content, finish_reason, prompt_tokens, completion_tokens
    )


def failed(completion: Completion, failure: str) -> Completion:
    """Return the completion of a model that has failed."""
    content = MODEL_FAILURES[failure]
    if failure == "modelbreak":
        content = completion.content[: len(completion.content) // 2] + content
    return replace(completion, content=content, finish_reason="stop")


def needed_tokens(call: Call) -> int:
    """Return the tokens that a token limit counts for a call when it arrives: its prompt and its max_tokens.

    A call without max_tokens counts with the tokens of its answer.
    """
    answer = complete(call, 0, 0)
    return answer.prompt_tokens + (call.body.get("max_tokens") or answer.completion_tokens)


def tokens(text: str) -> int:
    """Return an estimate: four characters per token."""
    return max(1, (len(text) + CHARS_PER_TOKEN - 1) // CHARS_PER_TOKEN)
