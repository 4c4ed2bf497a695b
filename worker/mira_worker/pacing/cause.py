"""Cause of a 429: the rate limit, the concurrency limit, or neither. Pure.

A Retry-After that a server has computed is of a rate limit: it says when the next call is admitted. A fixed one is
compared with the record: with the learned limits, and with what was accepted before.
"""

from __future__ import annotations

from typing import Literal

from mira_queue.contract import names
from mira_queue.contract.pace import Estimate, Limit, RateLimitHit

# The record goes back no further. Longer waits are quotas: they are honored, but not counted.
MAX_WINDOW_MS = round(names.CALL_HISTORY.total_seconds() * 1000)
# A wait that is not a multiple of this was computed. A fixed one is a setting of the server.
ROUND_MS = 100
# Retry-Afters this close to each other are of the same kind.
SAME_SHARE = 0.2
# A 429 at this share of the known limit may be a call that arrived too early. It counts when it repeats.
NEARLY = 0.9
# Two counts of calls in the window are the same number up to this share: some calls arrive too early.
REPEATS = 0.1

Kind = Literal["rate", "in_flight", "other", "unsure"]


def kind_of(estimate: Estimate, hit: RateLimitHit) -> Kind:
    """Return the cause of a 429: "other" is a quota or a busy server, "unsure" is a limit that has changed."""
    retry_after_ms, rate = hit.retry_after_ms, estimate.rate
    is_new = hit.in_flight > max(1, estimate.max_accepted)
    alone = hit.in_flight <= 1 and hit.in_window <= 1
    if retry_after_ms > MAX_WINDOW_MS or is_any(estimate.unrelated, retry_after_ms):
        return "other"
    if is_computed(retry_after_ms) and (not rate or rate.measured_ms or rate.confirmations <= 1):
        return "rate"
    if rate and rate.confirmations <= 1 and _had_a_window(estimate, rate, hit):
        return "rate"
    if alone:
        return "other"
    if fits(rate, retry_after_ms):
        return "rate" if hit.in_window > 1 else "other"
    kind: Kind = "rate"
    if estimate.in_flight and fits(estimate.in_flight, retry_after_ms):
        if hit.in_flight > 1:
            return "in_flight"
        known = estimate.in_flight
        if known.confirmations > 1 or was_exceeded(estimate, hit) or not was_the_other(known, hit.in_window, above=1):
            return "other"
        # Rate-limited although it was alone in flight: what has this Retry-After, once, was the rate.
    elif rate and (rate.measured_ms or rate.confirmations <= 1) and not is_new and _had_a_window(estimate, rate, hit):
        return "rate"
    elif hit.in_window < 3 * hit.in_flight or was_exceeded(estimate, hit):
        # A new kind, with few calls in the window. It is concurrency only if this many were never accepted.
        kind = "in_flight" if is_new else "unsure"
    other = estimate.rate if kind == "rate" else estimate.in_flight
    # A confirmed limit is not given up for a new one. A busy server sends its own Retry-After, which is neither.
    return "other" if other and other.confirmations > 1 else kind


def is_computed(retry_after_ms: int) -> bool:
    """Return True if a server has computed this wait: it says when its limit admits the next call."""
    return retry_after_ms % ROUND_MS != 0


def _had_a_window(estimate: Estimate, rate: Limit, hit: RateLimitHit) -> bool:
    """Return True if a rate limit admitted its calls since its last event: its window is longer than it stated."""
    return hit.retry_after_ms <= rate.window_ms and hit.accepted - estimate.reset_accepted >= rate.max_calls * NEARLY


def was_exceeded(estimate: Estimate, hit: RateLimitHit) -> bool:
    """Return True if as many calls were accepted in an earlier window: this one is not full."""
    is_recent = hit.now_ms - estimate.changed_ms <= MAX_WINDOW_MS
    return not is_recent and hit.peak_window - estimate.event_rate_limited >= hit.in_window


def was_the_other(known: Limit, seen_with: int, *, above: int) -> bool:
    """Return True if a limit that was hit once was the other kind: what it was seen with repeats, not its number."""
    same = abs(known.seen_with - seen_with) <= max(1, REPEATS * max(known.seen_with, seen_with))
    return known.confirmations == 1 and seen_with > above and same


def fits(limit: Limit | None, retry_after_ms: int) -> bool:
    """Return True if a 429 with this Retry-After may be of this limit."""
    return limit is not None and _same(limit.retry_after_ms, retry_after_ms)


def _same(one_ms: int, other_ms: int) -> bool:
    return abs(one_ms - other_ms) <= SAME_SHARE * max(one_ms, other_ms)


def is_any(waits_ms: tuple[int, ...], retry_after_ms: int) -> bool:
    """Return True if a Retry-After is one of these."""
    return any(_same(each, retry_after_ms) for each in waits_ms)
