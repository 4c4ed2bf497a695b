"""Estimate of the time that a file of requests takes."""

from __future__ import annotations

from mira_queue.contract.pace import Belief, Told


def seconds_of(lines: int, told: Told, belief: Belief) -> tuple[float, str] | None:
    """How long so many calls take, and at which limit, in words: the slowest that is known. None: none is."""
    rate, in_flight = belief.rate, belief.in_flight
    known = []
    if told.rate:
        known.append((lines / told.rate * told.window_ms / 1000, "MIRA_RATE"))
    if rate:
        window_s = rate.retry_after_ms / 1000
        known.append((lines / rate.most * window_s, f"the account's limit: {rate.most:,} in {window_s:g} s"))
    if in_flight and belief.call_ms:
        call_s = belief.call_ms / 1000
        words = f"the account's limit: {in_flight.most:,} at a time, {call_s:.1f} s each"
        known.append((lines / in_flight.most * call_s, words))
    return max(known, default=None)
