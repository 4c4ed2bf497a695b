"""Growth of the estimate: expected limits, the start of an unknown account, and probes for more. Pure."""

from __future__ import annotations

from dataclasses import replace

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState
from mira_worker.pacing.intervals import (
    FIRST_RATE_PROBE_WINDOWS,
    first_in_flight_interval_ms,
    first_rate_interval_ms,
    margin_ms_of,
)

# While no limit is known, the allowed calls double up to here, then grow by a quarter. Those above a known limit grow
# by an eighth.
DOUBLES_UP_TO, START_GROWTH, GROWTH = 8, 4, 8
# A call that has been in flight for this long was accepted: 429s come quickly. A mistake at the start costs little.
SETTLED_MS, START_SETTLED_MS = 250, 120
# Calls that took the last slot, per slot, that prove it if calls are too short to be seen in flight together.
ROUNDS = 5
# A probe for a higher rate waits until no slot becomes free for this share of the window, but not forever.
QUIET_SHARE, PATIENCE_INTERVALS = 0.33, 2
# The engine of a file submits its lines as it goes: from so many open jobs on, more may follow.
MANY_JOBS = 1000
# Wait of an expected concurrency limit, until a 429 states it.
EXPECTED_RETRY_AFTER_MS = 5000


def with_margin(configured: ConfiguredLimits) -> ConfiguredLimits:
    """Return the configured limits with windows that the server's clock cannot cut short."""
    window_ms, tokens_window_ms = (
        each and each + margin_ms_of(each) for each in (configured.window_ms, configured.tokens_window_ms)
    )
    return configured._replace(window_ms=window_ms, tokens_window_ms=tokens_window_ms)


def informed(estimate: Estimate, configured: ConfiguredLimits) -> Estimate:
    """Return the estimate with a start that is not below the configured calls in flight."""
    return replace(estimate, start=max(estimate.start, configured.in_flight))


def expected(configured: ConfiguredLimits, now_ms: int) -> Estimate | None:
    """Return the first estimate of an account of which nothing is known, or None if no limit is expected.

    No 429 has confirmed these limits. A 429 that does not fit replaces them, and probes for more raise them.
    """
    if not configured.expected_rate and not configured.expected_in_flight:
        return None
    estimate = informed(Estimate(), configured)
    if configured.expected_rate:
        window_ms = configured.expected_window_ms
        rate = _expected(configured.expected_rate, window_ms, first_rate_interval_ms(window_ms), now_ms)
        estimate = replace(estimate, rate=rate, margin_ms=margin_ms_of(window_ms))
    if configured.expected_in_flight:
        interval_ms = first_in_flight_interval_ms(EXPECTED_RETRY_AFTER_MS, 0)
        in_flight = _expected(configured.expected_in_flight, EXPECTED_RETRY_AFTER_MS, interval_ms, now_ms)
        estimate = replace(estimate, in_flight=in_flight)
    return estimate


def _expected(max_calls: int, retry_after_ms: int, interval_ms: int, now_ms: int) -> Limit:
    return Limit(
        max_calls, retry_after_ms, now_ms, confirmations=0, probe_at_ms=now_ms + interval_ms, interval_ms=interval_ms
    )


def grown(estimate: Estimate, state: PaceState) -> Estimate | None:
    """Return the estimate if more calls may be allowed than those that made a call wait; None if not."""
    settled = state.quiet_ms >= SETTLED_MS
    if state.reason == "in_flight" and estimate.rate:
        held_ms = min(state.rate_bound_ms, state.now_ms - estimate.rate.since_ms)
        if held_ms <= 2 * estimate.rate.window_ms:
            # The rate limits the account: more calls in flight would gain nothing, and a probe may cost a wait.
            return None
    limit = estimate.rate if state.reason == "rate" else estimate.in_flight
    if limit is None:
        if state.reason != "in_flight":
            return None
        seen = state.peak_in_flight >= estimate.start or state.at_ceiling >= max(1, estimate.start // 2)
        if not seen and state.quiet_ms < START_SETTLED_MS:
            return None
        more = estimate.start if estimate.start < DOUBLES_UP_TO else estimate.start // START_GROWTH
        max_accepted = max(estimate.max_accepted, state.peak_in_flight)
        return replace(estimate, start=estimate.start + more, max_accepted=max_accepted)
    if limit.step:
        if not settled and not _was_accepted(limit, state):
            return None
        # Calls in flight are probed in small steps, so that few are above what is accepted.
        step = limit.step * 2 if state.reason == "rate" else max(1, limit.allowed // GROWTH)
        found = replace(
            limit, max_calls=limit.allowed, step=step, confirmations=0, since_ms=state.now_ms, contradictions=0,
            interval_ms=first_rate_interval_ms(limit.window_ms)
            if state.reason == "rate"
            else first_in_flight_interval_ms(limit.retry_after_ms, estimate.call_ms),
        )  # fmt: skip
    elif state.now_ms >= limit.probe_at_ms and _is_good_moment(limit, state):
        found = replace(limit, step=1)
    else:
        return None
    return replace(estimate, rate=found) if state.reason == "rate" else replace(estimate, in_flight=found)


def _was_accepted(limit: Limit, state: PaceState) -> bool:
    if state.reason == "rate":
        # The call that took the last slot; before it, there was one fewer in the window.
        return state.peak_sent + 1 >= limit.allowed
    # A response that is on its way has freed a slot at the API before it does here: one call proves nothing.
    return state.peak_in_flight >= limit.allowed or state.at_ceiling >= ROUNDS * limit.allowed


def _is_good_moment(limit: Limit, state: PaceState) -> bool:
    if state.reason != "rate" or state.wait_ms >= limit.window_ms * QUIET_SHARE:
        return True
    return state.now_ms >= limit.probe_at_ms + PATIENCE_INTERVALS * limit.interval_ms


def is_worth_probing(limit: Limit, reason: str, call_ms: int, open_jobs: int) -> bool:
    """Return True if a probe for more may gain time: what remains takes longer than the interval between two probes.

    A file's engine submits its lines as it goes: from MANY_JOBS on, more may follow.
    """
    rounds: float = FIRST_RATE_PROBE_WINDOWS
    if reason == "in_flight":
        rounds = first_in_flight_interval_ms(limit.retry_after_ms, call_ms) / max(1, call_ms)
    return open_jobs >= min(MANY_JOBS, rounds * limit.max_calls)


def settled_in_ms(estimate: Estimate, state: PaceState) -> int:
    """Return when to ask again: while no concurrency limit is known, as soon as the last call has settled."""
    if state.reason != "in_flight" or estimate.in_flight or state.quiet_ms >= START_SETTLED_MS:
        return state.wait_ms
    return min(state.wait_ms, START_SETTLED_MS - state.quiet_ms)
