"""Tokens that a call may use, for accounts whose tokens are limited (MIRA_TOKENS). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from mira_queue.contract.token_estimate import MAX_TOKENS, max_completion_tokens, tokens_of_bytes


def estimated(body: bytes) -> int:
    """Return the tokens of the request and of the longest answer that it allows."""
    return tokens_of_bytes(len(body)) + max_completion_tokens(orjson.loads(body))


def used(usage: Mapping[str, Any], estimate: int) -> int:
    """Return the tokens that a response reports as used, or the estimate if it reports none."""
    total = usage.get("total_tokens")
    return min(total, MAX_TOKENS) if isinstance(total, int) and total >= 0 else estimate
