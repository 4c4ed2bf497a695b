"""JSON from a server, parsed within limits. Pure."""

from __future__ import annotations

from typing import Any

import orjson

# Levels of a response's JSON. Real ones have a handful. JSON that is nested deeper than orjson writes could not be
# stored.
MAX_NESTING = 100
# Objects and lists of a response's JSON. Once parsed, each takes up to 100 bytes of memory, but only two bytes (`[]`)
# of the response. The largest real responses (log probabilities, 20 for each of 16,000 tokens) have some 700,000.
MAX_BRACKETS = 1_000_000


def parse_json(body: bytes) -> Any:
    """Return None if the body is not JSON, or JSON that cannot be stored."""
    count = brackets(body)
    if count > MAX_BRACKETS:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    # Few brackets cannot be nested deeply: most responses need no check.
    if count > MAX_NESTING and is_deeper(value, MAX_NESTING):
        return None
    return value


def brackets(body: bytes) -> int:
    return body.count(b"{") + body.count(b"[")


def is_deeper(value: Any, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        level = [item for item in level if isinstance(item, dict | list)]
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return bool(level)
