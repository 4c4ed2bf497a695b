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
    """Return the most tokens that the answers to this request body may have: `n` answers, within the larger limit.

    A number over MAX_TOKENS counts as MAX_TOKENS: it is a limit, and not a missing one.
    """
    limit = max(_bounded(request.get(name)) for name in ("max_completion_tokens", "max_tokens"))
    return min(MAX_TOKENS, (limit or DEFAULT_MAX_TOKENS) * max(1, _bounded(request.get("n"))))


def count(value: object) -> int:
    """Return a reported number of tokens, or 0 for anything else."""
    # The exact type: in Python, a bool is an int.
    return value if type(value) is int and 0 < value <= MAX_TOKENS else 0


def _bounded(value: object) -> int:
    """Return a positive whole number, at most MAX_TOKENS, or 0 for anything else."""
    return min(MAX_TOKENS, value) if type(value) is int and value > 0 else 0
