"""Texts that a server sends as an answer when its model fails."""

from __future__ import annotations

import re

# Mira's: nothing, an error text, or the beginning of an answer and an error text.
FAILED_ANSWER = r"\A\s*\Z|\AОшибка: Stream request failed|Ошибка: Stream read error[^\n]*\s*\Z"


def checked_pattern(value: str) -> str:
    """Return a regular expression. Raise ValueError if it is none."""
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"expected a regular expression: {error}") from None
    return value
