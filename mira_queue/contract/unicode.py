"""Text from outside: whether it can be stored, and how it is shown on a terminal."""

from __future__ import annotations

# C0 without newline and tab, DEL, C1, and the characters that change the direction of the text.
_CONTROLS = [
    *(code for code in range(0x20) if chr(code) not in "\n\t"),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
]
_REPLACED = dict.fromkeys(_CONTROLS, "\N{REPLACEMENT CHARACTER}")
_ESCAPED = {code: f"\\u{code:04x}" for code in _CONTROLS if code >= 0x7F}


def is_unicode(text: str) -> bool:
    """Return True if UTF-8 can encode the text. Half of a surrogate pair, which Python allows, it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Return text without control characters, which could overwrite or reorder other text on a terminal."""
    return text.translate(_REPLACED)


def printable_json(text: str) -> str:
    """Return JSON with the same content, whose control characters are escaped. JSON requires that only below 0x20."""
    return text.translate(_ESCAPED)
