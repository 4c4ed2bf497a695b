"""Times of the pacer's policy: margins of windows, and intervals between two probes for more. Pure."""

from __future__ import annotations

# The margin grows with the window, as clock drift does.
MARGIN_SHARE, MIN_MARGIN_MS, MAX_MARGIN_MS = 0.01, 30, 250
# A probe for more costs a wait if it fails. For the rate, that is the rest of a window. For calls in flight, it is a
# Retry-After, and the duration of the probe that goes alone after it.
FIRST_RATE_PROBE_WINDOWS, FIRST_IN_FLIGHT_PROBE_WAITS = 7, 15
LONGER, MIN_INTERVAL_MS, MAX_INTERVAL_MS = 2, 30_000, 3_600_000


def margin_ms_of(window_ms: int) -> int:
    """Return what a window is longer than the API's, so that the API's clock cannot cut it short."""
    return max(MIN_MARGIN_MS, min(MAX_MARGIN_MS, round(window_ms * MARGIN_SHARE)))


def first_rate_interval_ms(window_ms: int) -> int:
    """Return the time to the first probe for a higher rate."""
    return max(MIN_INTERVAL_MS, window_ms * FIRST_RATE_PROBE_WINDOWS)


def first_in_flight_interval_ms(retry_after_ms: int, call_ms: int) -> int:
    """Return the time to the first probe for more calls in flight."""
    return (retry_after_ms + call_ms) * FIRST_IN_FLIGHT_PROBE_WAITS
