"""Wait until the next probe of a limit that lets nothing through. Pure."""

from __future__ import annotations

from dataclasses import replace

from mira_queue.contract.pace import Estimate, RateLimitHit
from mira_worker.pacing.cause import Kind, fits

# Probes are no further apart, unless the limit asks for more.
MAX_PROBE_WAIT_MS = 60_000
# What lasted longer was not leaked slots.
MAX_BLOCKED_MS = 600_000


def blocked(estimate: Estimate, hit: RateLimitHit, kind: Kind) -> Estimate:
    """Return the estimate with the wait until the next probe: longer if no call was accepted since the last event.

    Each probe may use up quota. A limit that lets nothing through until a time of its own (slots that leaked) is
    probed after twice the wait each time, and the next time after as long as it lasted.
    """
    retry_after_ms = hit.retry_after_ms
    if not estimate.event_ms or hit.accepted != estimate.event_accepted:
        lasted_ms = estimate.event_ms + estimate.wait_ms - estimate.blocked_ms
        for_ms = estimate.blocked_for_ms
        if estimate.blocked_repeats > 1:
            for_ms = lasted_ms if lasted_ms <= MAX_BLOCKED_MS else 0
        return replace(
            estimate, blocked_ms=hit.now_ms, blocked_repeats=0, blocked_for_ms=for_ms, wait_ms=retry_after_ms
        )
    repeats = estimate.blocked_repeats + 1
    wait_ms = retry_after_ms
    if kind != "rate":
        wait_ms = max(wait_ms, min(MAX_PROBE_WAIT_MS, retry_after_ms * 2 ** min(repeats, 20)))
    if fits(estimate.in_flight, retry_after_ms):
        wait_ms = max(wait_ms, estimate.blocked_ms + estimate.blocked_for_ms - hit.now_ms)
    return replace(estimate, blocked_repeats=repeats, wait_ms=wait_ms)
