"""What a request will use, before anybody knows: only the server counts tokens, and only afterwards."""

from __future__ import annotations

from producer.run.lines import InputLine

# Of UTF-8, JSON included: four letters of English, two of Cyrillic or Greek, a little more than one of Chinese.
BYTES_A_TOKEN = 4
# The API's own default, where a request names none.
DEFAULT_MAX_TOKENS = 4096


def tokens_of_bytes(size: int) -> int:
    """A guess, right to about a half, of a prompt or an answer of so many bytes."""
    return -(-size // BYTES_A_TOKEN)


def most_completion_tokens(line: InputLine) -> int:
    """What the answer may use at most: the request's own `max_tokens`, or the API's default."""
    return DEFAULT_MAX_TOKENS if line.max_tokens is None else line.max_tokens
