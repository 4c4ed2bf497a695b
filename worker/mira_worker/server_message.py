"""Message of a server, as logs and displays show it: short, on one line, and without the prompt. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from mira_queue.contract.errors import JobError
from mira_queue.contract.unicode import printable

MAX_CHARS = 300
# Separates the reason of an error from the beginning of the response, which may be a part of an answer.
BEGINS = "; it begins: "
# Letters and digits of a prompt that make a quotation. A server's own words rarely have as many in common with it.
QUOTATION = 16
# A shorter prompt says nothing that a server's own words would not.
MIN_PROMPT = 5
# Escapes of JSON, perhaps of JSON in JSON.
_ESCAPE = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|[nrtbf])")
# Strings of a message that are no part of a prompt.
_FRAME = frozenset({"role", "type"})

QUOTES_THE_REQUEST = "the message quotes the request: the error of the job contains it"


def server_message(error: JobError, request: bytes) -> str:
    """Return the message of an error after a call with this request. A message that quotes the prompt is replaced."""
    text = " ".join(printable(error.detail.partition(BEGINS)[0]).split())
    if quotes_prompt(text, request):
        text = QUOTES_THE_REQUEST
    status = f"HTTP {error.status}: " if error.status else ""
    text = f"{status}{text}"
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"


def quotes_prompt(text: str, request: bytes) -> bool:
    """Return True if a text contains a part of the request's messages, however it is escaped."""
    try:
        fields = orjson.loads(request)
    except orjson.JSONDecodeError:
        return True
    shown = _letters(text)
    prompts = [_letters(each) for each in _strings(fields.get("messages") if isinstance(fields, dict) else fields)]
    if any(MIN_PROMPT <= len(prompt) < 2 * QUOTATION and prompt in shown for prompt in prompts):
        return True
    starts = range(0, max(0, len(shown) - QUOTATION) + 1, QUOTATION // 4)
    pieces = [shown[start : start + QUOTATION] for start in starts if len(shown) >= QUOTATION]
    return any(piece in prompt for prompt in prompts if len(prompt) >= QUOTATION for piece in pieces)


def _strings(value: Any) -> Iterator[str]:
    level = [value]
    while level:
        each = level.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, list):
            level += each
        elif isinstance(each, dict):
            level += [inner for name, inner in each.items() if name not in _FRAME]


def _letters(text: str) -> str:
    text = _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else "", text)
    return "".join(filter(str.isalnum, text)).casefold()
