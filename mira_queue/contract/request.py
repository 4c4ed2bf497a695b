"""A chat request: checked as the API would check it, before it costs a call. Its content stays unchanged."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import orjson

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import INVALID_REQUEST, MISSING_PARAMETER
from mira_queue.contract.request_limits import RequestLimits

# The usual types come first: isinstance with an abstract class costs more than all other checks of a message.
_MAPPING = (dict, Mapping)
_SEQUENCE = (list, tuple, Sequence)
_MAX_BYTES_PER_CHAR = 4
_BRACKET = re.compile(r"[][{}]")


class ChatRequest:
    """One valid request body, as the bytes that will be sent.

    Fields that are not checked (`top_p`, `tools`, `response_format`, ...) stay unchanged, in their order.
    """

    __slots__ = ("body", "digest", "model")

    def __init__(self, body: bytes, model: str = "") -> None:
        self.body = body
        self.model = model
        self.digest = hashlib.sha256(body).hexdigest()[:32]

    @classmethod
    def checked(cls, fields: Mapping[str, Any], *, model: str, limits: RequestLimits) -> ChatRequest:
        """Return a request with these fields and a default `model`. Raise InvalidRequest if a field is wrong."""
        if not isinstance(fields, _MAPPING):
            _reject("body", f"expected a JSON object, got {_kind(fields)}")
        whole = {"model": model, **fields}
        if whole["model"] is None:
            whole["model"] = model
        _check_model(whole["model"], limits)
        _check_messages(whole.get("messages"), limits)
        _check_numbers(whole, limits)
        try:
            body = orjson.dumps(whole)
        except (TypeError, ValueError, RecursionError) as error:
            _check_tree(whole, "", 1, limits)
            raise InvalidRequest("body", f"cannot be written as JSON: {error}") from error
        if _may_break_a_rule(body, limits):
            _check_tree(whole, "", 1, limits)
        if limits.max_body_bytes is not None and len(body) > limits.max_body_bytes:
            _reject("body", f"{len(body):,} bytes, over the limit of {limits.max_body_bytes:,}")
        return cls(body, whole["model"])


def _reject(field: str, reason: str, code: str = INVALID_REQUEST) -> NoReturn:
    raise InvalidRequest(field, reason, code)


def _kind(value: Any) -> str:
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, Mapping) else type(value).__name__)


def _check_model(model: Any, limits: RequestLimits) -> None:
    if not isinstance(model, str) or not model:
        _reject("model", f"expected the name of a model, got {_kind(model) if model != '' else 'an empty string'}")
    if limits.max_model_chars is not None and len(model) > limits.max_model_chars:
        _reject("model", f"{len(model)} characters, over the limit of {limits.max_model_chars}")


def _check_messages(messages: Any, limits: RequestLimits) -> None:
    if messages is None:
        _reject("messages", "missing: expected a list of {role, content}", MISSING_PARAMETER)
    if not isinstance(messages, _SEQUENCE) or isinstance(messages, str | bytes):
        _reject("messages", f"expected a list, got {_kind(messages)}")
    if not messages and not limits.takes_no_messages:
        _reject("messages", "empty: expected at least one message")
    if limits.max_messages is not None and len(messages) > limits.max_messages:
        _reject("messages", f"{len(messages)} messages, over the limit of {limits.max_messages}")
    for number, message in enumerate(messages):
        _check_message(message, f"messages[{number}]", limits)
    if limits.max_brackets_in_text is not None:
        _check_brackets(messages, limits.max_brackets_in_text)


def _check_brackets(messages: Sequence[Mapping[str, Any]], maximum: int) -> None:
    """Reject texts in which more brackets are open than Mira's check of the nesting allows: it ignores quotes."""
    is_open = 0
    for number, message in enumerate(messages):
        text = message["content"]
        if not isinstance(text, str) or text.count("[") + text.count("{") + is_open <= maximum:
            is_open = max(0, is_open + (_opened(text) if isinstance(text, str) else 0))
            continue
        for bracket in _BRACKET.findall(text):
            is_open = is_open + 1 if bracket in "[{" else max(0, is_open - 1)
            if is_open > maximum:
                _reject(f"messages[{number}].content", f"more than {maximum} brackets ([ or {{) are not closed")


def _opened(text: str) -> int:
    return text.count("[") + text.count("{") - text.count("]") - text.count("}")


def _check_message(message: Any, field: str, limits: RequestLimits) -> None:
    if not isinstance(message, _MAPPING):
        _reject(field, f"expected an object with role and content, got {_kind(message)}")
    role = message.get("role")
    if not isinstance(role, str):
        _reject(f"{field}.role", f"expected a string, got {_kind(role)}")
    content = message.get("content")
    if content is None:
        if limits.content_required:
            _reject(f"{field}.content", "missing: expected text or a list of content parts", MISSING_PARAMETER)
        return
    if not isinstance(content, str):
        _check_parts(content, f"{field}.content", limits)
    elif limits.max_content_bytes is not None and len(content) > limits.max_content_bytes // _MAX_BYTES_PER_CHAR:
        size = len(content.encode("utf-8", "surrogatepass"))
        if size > limits.max_content_bytes:
            _reject(f"{field}.content", f"{size:,} bytes of UTF-8, over the limit of {limits.max_content_bytes:,}")


def _check_parts(content: Any, field: str, limits: RequestLimits) -> None:
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        _reject(field, f"expected text or a list of content parts, got {_kind(content)}")
    if not content:
        _reject(field, "an empty list: expected at least one content part")
    if not limits.takes_content_parts:
        _reject(field, "expected text: Mira rejects content parts (for another server, set MIRA_CHECK_LIMITS=none)")
    for number, part in enumerate(content):
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            _reject(f"{field}[{number}]", 'expected a content part such as {"type": "text", "text": "..."}')
        if part["type"] == "text" and not isinstance(part.get("text"), str):
            _reject(f"{field}[{number}].text", f"expected a string, got {_kind(part.get('text'))}")


def _check_numbers(whole: Mapping[str, Any], limits: RequestLimits) -> None:
    """Check the types. Mira does not check the range of a temperature, and lowers a max_tokens that is too large."""
    for name in ("temperature", "stream"):
        if not limits.takes_null and name in whole and whole[name] is None:
            _reject(name, "null: leave the field out")
    temperature, max_tokens, stream = (whole.get(name) for name in ("temperature", "max_tokens", "stream"))
    if limits.numbers_checked and temperature is not None and not _is_finite(temperature):
        _reject("temperature", f"expected a number, got {_kind(temperature)}")
    if limits.numbers_checked and max_tokens is not None and not (type(max_tokens) is int and max_tokens >= 0):
        _reject("max_tokens", "expected a whole number that is not negative")
    if stream is not None and not isinstance(stream, bool):
        _reject("stream", f"expected true or false, got {_kind(stream)}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _may_break_a_rule(body: bytes, limits: RequestLimits) -> bool:
    """Return False if a walk through the tree would find nothing. It costs more than all other checks together."""
    return (
        body.count(b"{") + body.count(b"[") > limits.max_nesting
        # orjson writes null for a number that JSON does not have.
        or b"null" in body
    )


def _check_tree(value: Any, field: str, depth: int, limits: RequestLimits) -> None:
    """Check the nesting and the numbers anywhere in the body. The body itself is level 1."""
    if isinstance(value, float) and not math.isfinite(value):
        _reject(field, f"{value} is not a number in JSON")
    if depth > limits.max_nesting and isinstance(value, (*_MAPPING, list, tuple)):
        _reject(field.split(".", 1)[0].split("[", 1)[0], f"nested deeper than {limits.max_nesting} levels")
    if isinstance(value, _MAPPING):
        for key, item in value.items():
            if not isinstance(key, str):
                _reject(field or "body", f"expected names that are strings, got {_kind(key)}")
            _check_tree(item, f"{field}.{key}" if field else key, depth + 1, limits)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check_tree(item, f"{field}[{number}]", depth + 1, limits)
