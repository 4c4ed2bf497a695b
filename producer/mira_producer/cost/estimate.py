"""Estimate of the time that a file of requests takes."""

from __future__ import annotations

from mira_queue.contract.pace import ConfiguredLimits, Estimate


def seconds_of(lines: int, configured: ConfiguredLimits, estimate: Estimate) -> tuple[float, str] | None:
    """Return the seconds that the calls take at the slowest known limit, and that limit. None if no limit is known."""
    rate, in_flight = estimate.rate, estimate.in_flight
    known = []
    if configured.rate:
        known.append((lines / configured.rate * configured.window_ms / 1000, "MIRA_RATE"))
    if rate:
        window_s = rate.retry_after_ms / 1000
        known.append((lines / rate.max_calls * window_s, f"the account's limit: {rate.max_calls:,} in {window_s:g} s"))
    if in_flight and estimate.call_ms:
        call_s = estimate.call_ms / 1000
        words = f"the account's limit: {in_flight.max_calls:,} at a time, {call_s:.1f} s each"
        known.append((lines / in_flight.max_calls * call_s, words))
    return max(known, default=None)
