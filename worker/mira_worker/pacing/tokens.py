"""Tokens that a call may use, for accounts whose tokens are limited (MIRA_TOKENS). Pure."""

from __future__ import annotations

from typing import Any

import orjson

from mira_queue.contract.outcome import MAX_TOKENS

# English text has some four bytes to a token; an estimate that is settled by `usage` afterwards need not be better.
BYTES_PER_TOKEN = 4
# What Mira writes at most when a request does not say (mira-api.md).
DEFAULT_MAX_TOKENS = 4096


def estimated(body: bytes) -> int:
    """Tokens of the request and the longest answer that it allows."""
    request = orjson.loads(body)
    asked = request.get("max_completion_tokens") or request.get("max_tokens")
    return len(body) // BYTES_PER_TOKEN + (_sane(asked) if isinstance(asked, int) else DEFAULT_MAX_TOKENS)


def used(usage: dict[str, Any], estimate: int) -> int:
    """Tokens that an answer says were used; the estimate, when it does not say."""
    total = usage.get("total_tokens")
    return _sane(total) if isinstance(total, int) and total >= 0 else estimate


def _sane(tokens: int) -> int:
    """No request has a billion; a server, or a request that is not checked, may say anything."""
    return max(0, min(tokens, MAX_TOKENS))
