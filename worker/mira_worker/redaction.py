"""Replace the API key, and values of headers, in texts of errors and logs. Servers quote them when they reject them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# 22 characters of base64 are 128 bits, and issued keys are longer. No common word is as long. A shorter "key" (`test`,
# `ollama`, `sk-no-key-required`) is a placeholder of a local server: replacing it would garble the message.
MIN_KEY_CHARS = 22


Redact = Callable[[str], str]


class Redaction:
    """Replaces secrets. Successful completions are never given to it: they are stored as they were received.

    The value of a header can be a scheme and a secret (`Bearer ...`). A server can quote only the secret.
    """

    def __init__(self, *values: str) -> None:
        words = {word for value in values for word in (value, *value.split())}
        # The longest first: a secret can be a part of another one.
        self._secrets = sorted((word for word in words if len(word) >= MIN_KEY_CHARS), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

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
