"""Limits on a request, as data. Mira's are those of its backend: a request that it answers passes the check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of a server on one request; by default none. None means no limit. The names contain the units.

    `takes_content_parts` is False if the content of a message must be text. `takes_null` is False if a temperature and
    `stream` must not be null. `max_brackets_in_text` bounds the brackets in all texts that are open at the same time.
    """

    max_model_chars: int | None = None
    max_messages: int | None = None
    max_content_bytes: int | None = None
    max_brackets_in_text: int | None = None
    takes_content_parts: bool = True
    takes_no_messages: bool = False
    takes_null: bool = True
    # Deeper than any server accepts and than orjson writes. It ends the walk through a request that has no limit.
    max_nesting: int = 200
    max_body_bytes: int | None = None
    content_required: bool = False
    numbers_checked: bool = False


MIRA_LIMITS = RequestLimits(
    max_model_chars=64,
    max_messages=200,
    max_content_bytes=32_000,
    max_brackets_in_text=20,
    takes_content_parts=False,
    takes_no_messages=True,
    takes_null=False,
    max_nesting=20,
    max_body_bytes=2 * MIB,
    content_required=True,
    numbers_checked=True,
)

NO_LIMITS = RequestLimits()


def limits_named(name: Literal["mira", "none"]) -> RequestLimits:
    """Return the limits that MIRA_CHECK_LIMITS names."""
    return MIRA_LIMITS if name == "mira" else NO_LIMITS
