"""Check of a caller's text. Python allows half of a surrogate pair in a string; UTF-8, JSON and Redis do not."""

from __future__ import annotations


def is_unicode(text: str) -> bool:
    """Return True if UTF-8 can encode the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
