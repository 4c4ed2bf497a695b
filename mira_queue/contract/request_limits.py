"""Limits on a request, as data. Mira's come from its documentation and the public source of its backend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of a server on one request; by default none. None means no limit. The names contain the units."""

    max_model_chars: int | None = None
    max_messages: int | None = None
    max_content_chars: int | None = None
    roles: frozenset[str] | None = None
    # Deeper than any server accepts and than orjson writes. It ends the walk through a request that has no limit.
    max_nesting: int = 200
    max_body_bytes: int | None = None
    null_bytes_allowed: bool = True
    content_required: bool = False
    temperature: tuple[float, float] | None = None
    max_tokens: int | None = None


MIRA_LIMITS = RequestLimits(
    max_model_chars=64,
    max_messages=200,
    max_content_chars=32_000,
    roles=frozenset({"system", "user", "assistant"}),
    max_nesting=20,
    max_body_bytes=12 * MIB,
    null_bytes_allowed=False,
    content_required=True,
    temperature=(0.0, 2.0),
    max_tokens=16_384,
)

NO_LIMITS = RequestLimits()


def limits_named(name: Literal["mira", "none"]) -> RequestLimits:
    """Return the limits that MIRA_CHECK_LIMITS names."""
    return MIRA_LIMITS if name == "mira" else NO_LIMITS
