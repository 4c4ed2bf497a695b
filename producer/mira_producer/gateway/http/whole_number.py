"""Whole numbers in queries and forms, which arrive as text."""

from __future__ import annotations

from mira_producer.gateway.http.errors import invalid

# int() raises an error of its own for thousands of digits.
MAX_DIGITS = 18


def whole_number(param: str, text: str, least: int, most: int) -> int:
    """Return the number. Raises ApiError, which names the parameter, if it is not one from `least` to `most`."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS
    if not is_number or not least <= int(text) <= most:
        raise invalid(param, f"expected a number from {least:,} to {most:,}, got {text[:40]!r}")
    return int(text)
