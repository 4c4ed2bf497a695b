"""Tokens that a call may use, for accounts whose tokens are limited (MIRA_TOKENS). Pure."""

from __future__ import annotations

from typing import Any

import orjson

# English text has about four bytes per token. `usage` corrects the estimate after the call.
BYTES_PER_TOKEN = 4
# Mira's limit for a request that sets none (mira-api.md).
DEFAULT_MAX_TOKENS = 4096
MAX_TOKENS = 1_000_000_000


def estimated(body: bytes) -> int:
    """Return the tokens of the request and of the longest answer that it allows."""
    request = orjson.loads(body)
    asked = request.get("max_completion_tokens") or request.get("max_tokens")
    return len(body) // BYTES_PER_TOKEN + (_sane(asked) if isinstance(asked, int) else DEFAULT_MAX_TOKENS)


def used(usage: dict[str, Any], estimate: int) -> int:
    """Return the tokens that were used according to the response, or the estimate if it does not say."""
    total = usage.get("total_tokens")
    return _sane(total) if isinstance(total, int) and total >= 0 else estimate


def _sane(tokens: int) -> int:
    """Clamp a number from a server, or from an unchecked request, which may be anything."""
    return max(0, min(tokens, MAX_TOKENS))
