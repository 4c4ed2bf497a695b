"""Events of the stream of a response. Pure.

Source: https://platform.openai.com/docs/api-reference/responses-streaming. The text is sent in the pieces in which the
server sent it, as far as they are published; other parts of an output are one piece each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.jobs.response_object import message_id, response_object
from mira_producer.gateway.jobs.streamed_completion import diverged
from mira_queue.contract.outcome import Outcome
from mira_queue.contract.states import JobStatus

_TEXT = "response.output_text"


class ResponseEvents:
    """Events of one response, numbered from 0. Each stream of a response has the same numbers while pieces are kept.

    A client that continues `after` a number gets the events that follow, and the last one in any case.
    """

    def __init__(self, job: JobStatus, after: int = -1) -> None:
        self._job = job
        self._after = after
        self._number = -1
        self._epoch = ""
        self._text = ""
        self._is_interrupted = False

    def first(self) -> Iterator[dict[str, Any]]:
        """Yield the events of an accepted job."""
        queued = {**response_object(self._job, None), "status": "queued"}
        yield from self._numbered({"type": "response.created", "response": queued})
        yield from self._numbered({"type": "response.in_progress", "response": {**queued, "status": "in_progress"}})

    def add(self, epoch: str, data: bytes) -> Iterator[dict[str, Any]]:
        """Yield the events of a published chunk. Chunks of another attempt are skipped if text has been sent."""
        if epoch != self._epoch:
            self._is_interrupted = bool(self._text)
            self._epoch = epoch
        piece = "" if self._is_interrupted else _text_of(orjson.loads(data))
        if not piece:
            return
        if not self._text:
            started = {**_message(self._job.id), "status": "in_progress"}
            yield from self._numbered({"type": "response.output_item.added", "output_index": 0, "item": started})
            yield from self._numbered({"type": "response.content_part.added", **self._place, "part": _part("")})
        yield from self._delta(piece)

    def rest(self, job: JobStatus, outcome: Outcome) -> Iterator[dict[str, Any]]:
        """Yield what is missing of the output, and the end."""
        found = response_object(job, outcome)
        is_answered = found["status"] in ("completed", "incomplete")
        if is_answered:
            try:
                yield from self._output(found["output"])
            except ApiError as error:
                yield from self._last({"type": "error", "code": error.code, "message": error.message, "param": None})
                return
        kind = found["status"] if is_answered else "failed"
        yield from self._last({"type": f"response.{kind}", "response": found})

    @property
    def _place(self) -> dict[str, Any]:
        """The place of the text that was sent in pieces."""
        return {"output_index": 0, "item_id": message_id(self._job.id), "content_index": 0}

    def _output(self, items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for index, item in enumerate(items):
            if index == 0 and self._text:
                yield from self._rest_of_message(item)
            else:
                yield from self._whole_item(index, item)
            yield from self._numbered({"type": "response.output_item.done", "output_index": index, "item": item})

    def _rest_of_message(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        part = item["content"][0] if item["type"] == "message" else {}
        whole = part.get("text", "")
        if not whole.startswith(self._text):
            raise diverged()
        if missing := whole[len(self._text) :]:
            yield from self._delta(missing)
        yield from self._numbered({"type": f"{_TEXT}.done", **self._place, "text": whole, "logprobs": []})
        yield from self._numbered({"type": "response.content_part.done", **self._place, "part": part})
        for place, other in enumerate(item["content"][1:], 1):
            yield from self._whole_part({**self._place, "content_index": place}, other)

    def _whole_item(self, index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        where = {"output_index": index, "item_id": item["id"]}
        is_call = item["type"] == "function_call"
        empty: dict[str, Any] = {"arguments": ""} if is_call else {"content": []}
        started = {**item, "status": "in_progress", **empty}
        yield from self._numbered({"type": "response.output_item.added", "output_index": index, "item": started})
        if not is_call:
            for place, part in enumerate(item["content"]):
                yield from self._whole_part({**where, "content_index": place}, part)
            return
        kind, text = "response.function_call_arguments", item["arguments"]
        yield from self._numbered({"type": f"{kind}.delta", **where, "delta": text})
        yield from self._numbered({"type": f"{kind}.done", **where, "name": item["name"], "arguments": text})

    def _whole_part(self, where: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
        is_text = part["type"] == "output_text"
        field, kind = ("text", _TEXT) if is_text else ("refusal", "response.refusal")
        more: dict[str, Any] = {"logprobs": []} if is_text else {}
        yield from self._numbered({"type": "response.content_part.added", **where, "part": {**part, field: ""}})
        yield from self._numbered({"type": f"{kind}.delta", **where, "delta": part[field], **more})
        yield from self._numbered({"type": f"{kind}.done", **where, field: part[field], **more})
        yield from self._numbered({"type": "response.content_part.done", **where, "part": part})

    def _delta(self, text: str) -> Iterator[dict[str, Any]]:
        self._text += text
        yield from self._numbered({"type": f"{_TEXT}.delta", **self._place, "delta": text, "logprobs": []})

    def _numbered(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self._number += 1
        if self._number > self._after:
            yield {**event, "sequence_number": self._number}

    def _last(self, event: dict[str, Any]) -> Iterator[dict[str, Any]]:
        # The pieces of a client that comes late are not kept any more: its number may be higher than ours.
        self._number = max(self._number, self._after)
        yield from self._numbered(event)


def _message(job_id: str) -> dict[str, Any]:
    return {"type": "message", "id": message_id(job_id), "role": "assistant", "status": "completed", "content": []}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _text_of(chunk: dict[str, Any]) -> str:
    """Return the text that a chunk adds to the first choice."""
    for choice in chunk["choices"]:
        if isinstance(choice, dict) and not choice.get("index") and isinstance(choice.get("delta"), dict):
            text = choice["delta"].get("content")
            return text if isinstance(text, str) else ""
    return ""
