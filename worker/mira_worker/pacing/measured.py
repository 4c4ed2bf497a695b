"""Rate limits whose Retry-After is not their window: a fixed window, a bucket, a rounded wait. Pure.

At each 429, such a limiter is used up. What it admitted between two 429s is therefore its rate.
"""

from __future__ import annotations

from dataclasses import replace

from mira_queue.contract.pace import Limit, RateLimitHit
from mira_worker.pacing.cause import NEARLY, REPEATS, fits, is_computed
from mira_worker.pacing.intervals import LONGER, MAX_INTERVAL_MS, first_rate_interval_ms

# Servers round waits up to this.
ROUNDED_MS = 1000
# A new account has used up a short window by then.
START_MS = 2000
# If two events are further apart than so many windows, the account may have been idle, unless it made this share of the
# calls that were allowed.
PERIODS, BUSY = 3, 0.8
# A period that is shorter than this share of the window says little.
SHORT = 0.5
# A window that admitted at most this share of what was allowed is longer than it stated.
LONGER_WINDOW = 0.75


def is_early(known: Limit, period_ms: int) -> bool:
    """Return True if a measured limit is hit again so soon that the call may have been a little early.

    What such a short period admitted would not show the rate. If it happens again, it does.
    """
    is_first = not known.step and not known.contradictions
    return is_first and known.measured_ms > 0 and 0 < period_ms < SHORT * known.window_ms


def is_measurable(known: Limit, hit: RateLimitHit, period_ms: int, calls: int, accepted: int) -> bool:
    """Return True if the calls since the last event show the rate: the limiter was used up at both times.

    If the events are further apart, the account may have been idle. The probe goes alone: a period has at least the
    duration of a call, however short the first guess of the window is.
    """
    wait_ms = hit.retry_after_ms
    if calls <= 0 or period_ms <= 0:
        return False
    if not known.measured_ms and fits(known, wait_ms):
        # It may be the window, or a rounded wait.
        share = calls * known.window_ms / (known.max_calls * period_ms)
        # If the same window was full before the call, the call may have been a little early, but not twice.
        is_same = wait_ms == known.retry_after_ms and not known.contradictions
        was_early = is_same and accepted >= NEARLY * known.max_calls
        is_longer = calls >= NEARLY * known.max_calls and share <= LONGER_WINDOW and not was_early
        if known.confirmations > 1 or accepted >= known.max_calls or not (is_longer or wait_ms == ROUNDED_MS):
            return False
    was_busy = calls * known.window_ms >= BUSY * (known.base_calls or known.max_calls) * period_ms
    return was_busy or period_ms <= PERIODS * max(known.window_ms, wait_ms, hit.call_ms)


def guessed(hit: RateLimitHit) -> tuple[int, int]:
    """Return the calls and the window of a limit whose first 429 states a computed wait.

    If the account is new, its limiter was unused at its first call: all calls since then are in one window, unless they
    took longer. Otherwise, the window is the wait. It is too short, which the next 429 shows.
    """
    elapsed_ms = hit.now_ms - hit.first_ms
    if elapsed_ms <= max(hit.retry_after_ms, START_MS):
        return hit.accepted, elapsed_ms + hit.retry_after_ms
    return hit.in_window - 1, hit.retry_after_ms


def is_bucket(known: Limit, hit: RateLimitHit) -> bool:
    """Return True if each call is admitted as soon as a bucket of this rate has room for one, rounded up or not."""
    longest_ms = max(known.window_ms / known.max_calls, ROUNDED_MS if hit.retry_after_ms == ROUNDED_MS else 0)
    return max(known.retry_after_ms, hit.retry_after_ms) <= longest_ms


def counts_rejected(limit: Limit, known: Limit | None) -> bool:
    """Return False if rate-limited calls do not count toward this limit.

    It is then a window that states when it ends. A bucket does not count them either, but forgives none. `known` is the
    limit as it was before this 429.
    """
    interval_ms = limit.window_ms / limit.max_calls
    wait_ms = max(limit.retry_after_ms, known.retry_after_ms if known else 0)
    return not limit.measured_ms or wait_ms <= max(ROUNDED_MS, PERIODS * interval_ms)


def measured(known: Limit, hit: RateLimitHit, period_ms: int, calls: int) -> Limit:
    """Return the limit that admits so many calls in such a period. Its window stays as long as it was, about."""
    together = hit.in_known_window - 1
    is_much_less = calls * known.window_ms < NEARLY * known.max_calls * period_ms
    if (
        is_much_less
        and known.base_calls
        and not known.step
        and is_bucket(known, hit)
        and 0 < together < known.max_calls
    ):
        # The bucket is smaller than the calls that are sent together. Its rate may be right: it is kept.
        window_ms = -(-together * known.window_ms // known.max_calls)
        return replace(known, max_calls=together, base_calls=together, measured_ms=window_ms, since_ms=hit.now_ms)
    if known.base_calls and known.allowed > known.base_calls and not is_much_less:
        # Before the probe for more, the limiter was not used up: the period shows less than its rate.
        period_ms = min(period_ms, -(-calls * known.window_ms // known.base_calls))
    # A 429 never raises a rate.
    period_ms = max(period_ms, -(-calls * known.window_ms // known.max_calls))
    windows = max(1, round(period_ms / known.window_ms))
    if not known.base_calls and calls < NEARLY * windows * known.max_calls:
        # Until it was measured, a window is a guess.
        windows = 1
    if not known.measured_ms and not is_computed(hit.retry_after_ms) and period_ms >= 2 * ROUNDED_MS:
        # Both ends are rounded up to a second. A window that is too short is noticed; one that is too long is not.
        period_ms = max(known.window_ms, period_ms // ROUNDED_MS * ROUNDED_MS)
    max_calls = -(-calls // windows)
    window_ms = -(-max_calls * period_ms // calls)
    first_ms = first_rate_interval_ms(window_ms)
    base_calls = known.base_calls or known.max_calls
    has_failed = known.step > 0 and max_calls * known.window_ms <= (1 + REPEATS) * base_calls * window_ms
    interval_ms = min(MAX_INTERVAL_MS, known.interval_ms * LONGER) if has_failed else first_ms
    return Limit(
        max_calls,
        hit.retry_after_ms,
        hit.now_ms,
        known.confirmations + has_failed,
        interval_ms=interval_ms,
        base_calls=max_calls,
        measured_ms=window_ms,
    )
