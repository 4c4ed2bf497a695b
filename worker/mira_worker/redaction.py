"""Replace the API key in texts of errors and logs. Servers quote it when they reject it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# 22 characters of base64 are 128 bits, and issued keys are longer. No common word is as long. A shorter "key" (`test`,
# `ollama`, `sk-no-key-required`) is a placeholder of a local server: replacing it would garble the message.
MIN_KEY_CHARS = 22


Redact = Callable[[str], str]


class Redaction:
    """Replaces one key. Successful completions are never given to it: they are stored as they were received."""

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= MIN_KEY_CHARS else ""

    def __call__(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def __repr__(self) -> str:
        return "Redaction()"


def redacted(value: Any, redact: Redact) -> Any:
    """Return a JSON value with the key replaced in every string. What is parsed already cannot become invalid JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, list):
        return [redacted(item, redact) for item in value]
    if isinstance(value, dict):
        return {redact(name): redacted(item, redact) for name, item in value.items()}
    return value
