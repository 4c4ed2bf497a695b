"""Lines of an output or error file as rows of a table. The lines come from a server: anything may be in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from mira_producer.jsonl.result_line import job_id_of, part_of
from mira_queue.contract.token_estimate import count
from mira_queue.contract.unicode import printable

MAX_TEXT_CHARS = 20_000
MAX_SHORT_CHARS = 200


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One line. `text` is the answer, or the message of the error. `tokens` are those of the answer, if it has any."""

    custom_id: str
    text: str
    code: str = ""
    status: str = ""
    model: str = ""
    tokens: int = 0
    job_id: str = ""
    is_cut: bool = False

    @property
    def short(self) -> str:
        """The beginning of the text, on one line."""
        line = " ".join(self.text.split())
        return line if len(line) <= MAX_SHORT_CHARS else f"{line[:MAX_SHORT_CHARS].rstrip()}…"

    @property
    def is_long(self) -> bool:
        return len(self.text) > MAX_SHORT_CHARS or "\n" in self.text.strip()


def row_of(line: bytes) -> ResultRow:
    """Return the row of a line; a line that is not one of ours is shown as it is."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        entry = None
    if not isinstance(entry, dict):
        return _row("", line[: 4 * MAX_TEXT_CHARS].decode(errors="replace"))
    error, body = part_of(entry, "error"), part_of(entry, "response", "body")
    status = part_of(entry, "response").get("status_code")
    return _row(
        str(entry.get("custom_id", ""))[:512],
        str(error.get("message", "")) if error else _answer(body),
        code=str(error.get("code", ""))[:80],
        status=str(status) if isinstance(status, int) else "",
        model="" if error else str(body.get("model") or "")[:200],
        tokens=count(part_of(body, "usage").get("completion_tokens")),
        job_id=job_id_of(entry)[:100],
    )


def _row(custom_id: str, text: str, **more: Any) -> ResultRow:
    is_cut = len(text) > MAX_TEXT_CHARS
    return ResultRow(printable(custom_id), printable(text[:MAX_TEXT_CHARS]), **more, is_cut=is_cut)


def _answer(body: Any) -> str:
    """Return the text of the first choice, or its message as JSON if it is not a text, such as a call of a tool."""
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else {}
    message = part_of(first, "message") if isinstance(first, dict) else {}
    content = message.get("content")
    if isinstance(content, str) and content:
        return content
    return orjson.dumps(dict(message) or body).decode()
