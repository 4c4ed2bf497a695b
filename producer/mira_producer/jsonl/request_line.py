"""One line of an input file: the batch format, a request body, or a prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from mira_producer.jsonl.errors import invalid_file
from mira_producer.jsonl.reader import opened
from mira_producer.request_fields import KNOWN_FIELDS
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import (
    INVALID_FILE,
    INVALID_JSON_LINE,
    INVALID_METHOD,
    INVALID_URL,
    LINE_TOO_LONG,
    MISSING_PARAMETER,
    UNKNOWN_PARAMETER,
    Problem,
)
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.token_estimate import max_completion_tokens

# The forms of OpenAI and of Azure.
BATCH_URLS = ("/v1/chat/completions", "/chat/completions")
# No request is larger. A file without line ends must not fill the memory.
MAX_LINE_BYTES = 64 * 1024 * 1024
# Between two requests. A small compressed file could otherwise hold a reader for minutes with blank lines.
MAX_BLANK_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
# The field of an InvalidRequest that concerns the line as a whole.
WHOLE_LINE = "line"
# Of a line's request: 96 bits, too many for two requests of any file to share a digest by chance.
DIGEST_CHARS = 24
_BATCH_FIELDS = frozenset({"custom_id", "method", "url", "body"})


@dataclass(frozen=True, slots=True)
class InputLine:
    """One request of the file. `number` counts from 1. `custom_id` is that of the line, or its number.

    `model` is None if the line has none. `max_tokens` is the most tokens that the answer may have. `digest` identifies
    the request as the line has it. `request.digest` includes the defaults that we add. `unknown_fields` are
    fields that OpenAI's API does not have.
    """

    number: int
    custom_id: str
    request: ChatRequest
    model: str | None
    max_tokens: int
    digest: str
    unknown_fields: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class OpenLine:
    """A line whose job has not finished: what is needed to write its outcome and to delete the job."""

    number: int
    custom_id: str
    key: str = ""
    size: int = 0
    model: str = ""
    digest: str = ""


def problem_of(path: Path, number: int, error: InvalidRequest) -> Problem:
    """Return what is wrong with a line of the file at `path`."""
    field = None if error.field == WHOLE_LINE else error.field
    return Problem(str(path), number, field, error.code, error.reason)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number, content) of every line that is not blank, without byte order mark and carriage return.

    Raises InvalidInput for a file that cannot be read, is not text, or has a line that is too long.
    """
    with opened(path) as file:
        number = blank_bytes = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            size = len(line)
            if len(line) > MAX_LINE_BYTES:
                reason = f"longer than {MAX_LINE_BYTES:,} bytes: give one request per line"
                raise invalid_file(path, reason, LINE_TOO_LONG, number)
            if number == 1:
                line = line.removeprefix(_BOM)
            line = line.strip()
            if line:
                blank_bytes = 0
                yield number, line
                continue
            blank_bytes += size
            if blank_bytes > MAX_BLANK_BYTES:
                reason = f"more than {MAX_BLANK_BYTES:,} bytes of blank lines in a row: remove them"
                raise invalid_file(path, reason, INVALID_FILE, number)


def parse_line(number: int, content: bytes, check: Callable[[Mapping[str, Any]], ChatRequest]) -> InputLine:
    """Return the request of a line. `check` turns its body into a request. Raises InvalidRequest with the field."""
    entry = _entry(content)
    custom_id = _custom_id(entry, number)
    fields = _fields(entry)
    request = _checked_body(fields, check) if "body" in entry else check(fields)
    return InputLine(
        number,
        custom_id,
        request,
        fields.get("model"),
        max_completion_tokens(fields),
        request_digest(fields),
        frozenset(fields.keys() - KNOWN_FIELDS),
    )


def request_digest(fields: Mapping[str, Any]) -> str:
    """Return a digest of a request's fields, whatever their order.

    It has no default that we add: another `MIRA_MODEL`, or a later version, does not change it.
    """
    if fields.get("model", "") is None:
        fields = {name: value for name, value in fields.items() if name != "model"}
    return hashlib.sha256(orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)).hexdigest()[:DIGEST_CHARS]


def identity_of(number: int, content: bytes) -> tuple[str, str]:
    """Return the custom_id and the digest of a line. The digest of a line without a request is empty.

    Raises InvalidRequest for a line that is not JSON, or whose custom_id is wrong.
    """
    entry = _entry(content)
    custom_id = _custom_id(entry, number)
    try:
        return custom_id, request_digest(_fields(entry))
    except (InvalidRequest, orjson.JSONEncodeError):
        return custom_id, ""


def line_id(number: int, content: bytes) -> str:
    """Return the custom_id of a line without a check of its request. Raises InvalidRequest."""
    return _custom_id(_entry(content), number)


def request_fields(content: bytes) -> dict[str, Any]:
    """Return the fields of a line's request, without a check of them. Raises InvalidRequest."""
    return _fields(_entry(content))


def _fields(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a line's request. A prompt becomes the messages that are sent."""
    if "body" in entry:
        return _batch_body(entry)
    fields = {name: value for name, value in entry.items() if name != "custom_id"}
    if "prompt" in fields:
        return _prompt_fields(fields)
    if "messages" not in fields:
        reason = 'expected "messages", "prompt", or the batch format with "body"'
        raise InvalidRequest(WHOLE_LINE, reason, MISSING_PARAMETER)
    return fields


def _entry(content: bytes) -> dict[str, Any]:
    try:
        entry = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        try:
            content.decode()
        except UnicodeDecodeError as wrong:
            reason = f"not UTF-8 at column {wrong.start + 1}: convert the file"
            raise InvalidRequest(WHOLE_LINE, reason, INVALID_JSON_LINE) from None
        reason = f"not JSON at column {error.colno}: {error.msg}"
        raise InvalidRequest(WHOLE_LINE, reason, INVALID_JSON_LINE) from None
    if not isinstance(entry, dict):
        reason = "expected a JSON object: a request body, a prompt, or a line of the batch format"
        raise InvalidRequest(WHOLE_LINE, reason, INVALID_JSON_LINE)
    return entry


def _custom_id(entry: Mapping[str, Any], number: int) -> str:
    custom_id = entry.get("custom_id")
    if custom_id is None:
        return str(number)
    if not isinstance(custom_id, str) or not custom_id:
        raise InvalidRequest("custom_id", "expected a non-empty string")
    if len(custom_id) > 512:
        raise InvalidRequest("custom_id", f"{len(custom_id)} characters, over the limit of 512")
    return custom_id


def _batch_body(entry: Mapping[str, Any]) -> dict[str, Any]:
    if entry.get("method", "POST") != "POST":
        raise InvalidRequest("method", f'expected "POST", got {str(entry["method"])[:20]!r}', INVALID_METHOD)
    if entry.get("url", BATCH_URLS[0]) not in BATCH_URLS:
        raise InvalidRequest("url", f"expected {BATCH_URLS[0]!r}, got {str(entry['url'])[:60]!r}", INVALID_URL)
    unknown = sorted(set(entry) - _BATCH_FIELDS)
    if unknown:
        raise InvalidRequest(unknown[0][:60], "not a field of the batch format: move it into body", UNKNOWN_PARAMETER)
    if not isinstance(entry["body"], dict):
        raise InvalidRequest("body", "expected a JSON object")
    body: dict[str, Any] = entry["body"]
    return body


def _checked_body(body: Mapping[str, Any], check: Callable[[Mapping[str, Any]], ChatRequest]) -> ChatRequest:
    try:
        return check(body)
    except InvalidRequest as error:
        if error.field == "body":
            raise
        raise InvalidRequest(f"body.{error.field}", error.reason, error.code) from None


def _prompt_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    if "messages" in fields:
        raise InvalidRequest("prompt", "given next to messages: give only one of them")
    if not isinstance(fields["prompt"], str):
        raise InvalidRequest("prompt", "expected a string")
    if not fields["prompt"].strip():
        raise InvalidRequest("prompt", "is empty")
    rest = {name: value for name, value in fields.items() if name != "prompt"}
    return {"messages": [{"role": "user", "content": fields["prompt"]}], **rest}
