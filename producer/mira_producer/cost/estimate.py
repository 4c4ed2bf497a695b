"""What requests will use, before anybody knows: only the server counts tokens, and only afterwards."""

from __future__ import annotations

from mira_producer.jsonl.request_line import InputLine
from mira_queue.contract.pace import ConfiguredLimits, Estimate

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


def seconds_of(lines: int, configured: ConfiguredLimits, estimate: Estimate) -> tuple[float, str] | None:
    """How long so many calls take, and at which limit, in words: the slowest that is known. None: none is."""
    rate, in_flight = estimate.rate, estimate.in_flight
    known = []
    if configured.rate:
        known.append((lines / configured.rate * configured.window_ms / 1000, "MIRA_RATE"))
    if rate:
        window_s = rate.retry_after_ms / 1000
        known.append((lines / rate.most * window_s, f"the account's limit: {rate.most:,} in {window_s:g} s"))
    if in_flight and estimate.call_ms:
        call_s = estimate.call_ms / 1000
        words = f"the account's limit: {in_flight.most:,} at a time, {call_s:.1f} s each"
        known.append((lines / in_flight.most * call_s, words))
    return max(known, default=None)
