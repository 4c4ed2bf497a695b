"""Estimate of the tokens of a call before it is made. The API counts tokens only afterward. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Of UTF-8 text, JSON included: about four letters of English, two of Cyrillic or Greek, or 1.3 characters of Chinese.
BYTES_PER_TOKEN = 4
# The API's default for a request that has no limit (mira-api.md).
DEFAULT_MAX_TOKENS = 4096
# No call uses more. A request that is not checked, and a server, may state any number, and JSON numbers end at 64 bits.
MAX_TOKENS = 1_000_000_000


def tokens_of_bytes(size: int) -> int:
    """Return the estimated tokens of a prompt or an answer of `size` bytes. The error may be half of it."""
    return -(-size // BYTES_PER_TOKEN)


def max_completion_tokens(request: Mapping[str, Any]) -> int:
    """Return the most tokens that the answer to this request body may have."""
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    return count(limit) or DEFAULT_MAX_TOKENS


def count(value: object) -> int:
    """Return a reported number of tokens, or 0 for anything else."""
    # The exact type: in Python, a bool is an int.
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0
