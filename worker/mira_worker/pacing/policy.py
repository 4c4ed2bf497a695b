"""Policy of the pacer: what a 429 shows about an account's limits. Pure.

The numbers come from a record of what the API counts: every call, rate-limited ones included, and the calls in flight.
The 429 of a sliding window gives the length of the window (its Retry-After), and the record gives the calls in it. The
429 of a concurrency limit gives a shorter time, at a number in flight that was never accepted before.
"""

from __future__ import annotations

from dataclasses import replace

from mira_queue.contract.pace import Estimate, Limit, RateLimitHit
from mira_worker.pacing.blocked import blocked
from mira_worker.pacing.cause import NEARLY, Kind, fits, is_any, is_computed, kind_of, was_exceeded, was_the_other
from mira_worker.pacing.intervals import (
    LONGER,
    MARGIN_SHARE,
    MAX_INTERVAL_MS,
    MAX_MARGIN_MS,
    MIN_MARGIN_MS,
    first_in_flight_interval_ms,
    first_rate_interval_ms,
    margin_ms_of,
)
from mira_worker.pacing.measured import counts_rejected, guessed, is_bucket, is_early, is_measurable, measured

# The margin grows with each 429 that is a little below the limit.
MORE_MARGIN, MAX_MARGIN_SHARE = 1.5, 0.03
# Retry-Afters that are remembered as neither limit, and for how long.
MAX_UNRELATED, UNRELATED_TTL_MS = 8, 600_000


def after_rate_limit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """Return the estimate after a 429. A burst of 429s with one cause is one event."""
    max_accepted = max(estimate.max_accepted, hit.peak_in_flight)
    unrelated = estimate.unrelated if hit.now_ms - estimate.unrelated_ms < UNRELATED_TTL_MS else ()
    estimate = replace(estimate, max_accepted=max_accepted, unrelated=unrelated, call_ms=hit.call_ms)
    kind = kind_of(estimate, hit)
    if hit.sent_ms <= estimate.event_ms:
        # Until now this call counted as accepted.
        estimate = replace(estimate, event_accepted=estimate.event_accepted - 1)
        return _corrected(replace(estimate, event_rate_limited=estimate.event_rate_limited + 1), kind)
    estimate = replace(
        blocked(estimate, hit, kind),
        event_accepted=hit.accepted,
        event_ms=hit.now_ms,
        event_in_window=hit.in_window,
        event_in_flight=hit.in_flight,
        event_rate_limited=1,
    )
    match kind:
        case "rate":
            return _after_rate_hit(estimate, hit)
        case "in_flight":
            return _after_in_flight_hit(estimate, hit)
        case "unsure":
            # This many were in flight once, and may no longer be accepted: the next 429 is judged without that.
            return replace(estimate, max_accepted=0, changed_ms=hit.now_ms)
    return _after_unrelated_hit(estimate, hit)


def _after_rate_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, window_ms = estimate.rate, hit.retry_after_ms
    if known and _looks_in_flight(estimate, known, hit):
        # Fewer in the window, as many in flight: calls are so short that concurrency looked like a rate.
        return _after_in_flight_hit(replace(estimate, rate=None, changed_ms=hit.now_ms), hit)
    accepted = (hit.in_known_window if known and known.measured_ms else hit.in_window) - 1
    reset_ms, period_ms = hit.now_ms + window_ms, hit.now_ms + window_ms - estimate.reset_ms
    calls = hit.accepted - estimate.reset_accepted
    margin_ms = max(estimate.margin_ms, margin_ms_of(window_ms))
    if known and is_early(known, period_ms):
        # The period continues: the next event measures all of it.
        limit = replace(known, contradictions=1)
        margin_ms = round(min(estimate.margin_ms * MORE_MARGIN, known.window_ms * MAX_MARGIN_SHARE))
        return replace(estimate, rate=limit, margin_ms=margin_ms)
    estimate = replace(estimate, reset_ms=reset_ms, reset_accepted=hit.accepted)
    interval_ms = first_rate_interval_ms(window_ms)
    if known and is_measurable(known, hit, period_ms, calls, accepted):
        limit = measured(known, hit, period_ms, calls)
        # Each further 429 of the event means one fewer of these calls.
        estimate = replace(estimate, event_in_window=calls + 1 if limit.max_calls == calls else 0)
        # A bucket forgives a call that is a little early.
        margin_ms = 0 if is_bucket(known, hit) else round(min(MAX_MARGIN_MS, limit.window_ms * MARGIN_SHARE))
    elif known is None or not (known.measured_ms or fits(known, window_ms)):
        measured_ms = 0
        if is_computed(window_ms):
            accepted, measured_ms = guessed(hit)
            margin_ms = round(min(margin_ms_of(measured_ms), measured_ms * MAX_MARGIN_SHARE))
            estimate = replace(estimate, event_in_window=accepted + 1)
        limit = Limit(
            max(1, accepted),
            window_ms,
            hit.now_ms,
            interval_ms=interval_ms,
            seen_with=hit.in_flight,
            measured_ms=measured_ms,
        )
    elif accepted >= known.max_calls:
        limit = _confirmed(known, min(accepted, known.allowed), hit.now_ms)
    elif accepted >= known.max_calls * NEARLY and not known.contradictions:
        limit = replace(known, step=0, contradictions=1)
        margin_ms = round(min(margin_ms * MORE_MARGIN, max(MIN_MARGIN_MS, window_ms * MAX_MARGIN_SHARE)))
    else:
        limit = Limit(
            max(1, accepted), known.retry_after_ms, hit.now_ms, interval_ms=interval_ms, measured_ms=known.measured_ms
        )
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    # A concurrency limit with the same Retry-After was this rate limit.
    was_mistaken = fits(estimate.in_flight, window_ms)
    in_flight = None if was_mistaken else _probe_later(estimate.in_flight, hit.now_ms)
    uncounted, until_ms = (0, 0) if counts_rejected(limit, known) else (1, hit.now_ms + limit.window_ms)
    return replace(
        estimate, rate=limit, in_flight=in_flight, margin_ms=margin_ms, uncounted=uncounted, uncounted_until_ms=until_ms
    )


def _looks_in_flight(estimate: Estimate, known: Limit, hit: RateLimitHit) -> bool:
    """Return True if a rate that was hit once looks like a concurrency limit now. A mistake is soon refuted."""
    is_fixed = not known.measured_ms and fits(known, hit.retry_after_ms)
    is_fewer = hit.in_window - 1 < known.max_calls * NEARLY
    return is_fixed and is_fewer and was_the_other(known, hit.in_flight, above=max(1, estimate.max_accepted))


def _after_in_flight_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, accepted = estimate.in_flight, max(1, hit.in_flight - 1)
    interval_ms = first_in_flight_interval_ms(hit.retry_after_ms, estimate.call_ms)
    if known is None or not fits(known, hit.retry_after_ms):
        limit = Limit(accepted, hit.retry_after_ms, hit.now_ms, interval_ms=interval_ms, seen_with=hit.in_window)
    elif accepted >= known.max_calls or known.step:
        # A response may have arrived during the probe: the number in flight is then one lower than it was.
        limit = _confirmed(known, max(known.max_calls, min(accepted, known.allowed)), hit.now_ms)
    elif was_the_other(known, hit.in_window, above=hit.in_flight) and not was_exceeded(estimate, hit):
        # The number in the window repeats, not the one in flight: it was the rate, hit while its calls were in flight.
        return _after_rate_hit(replace(estimate, in_flight=None), hit)
    elif known.contradictions and hit.in_window >= 3 * hit.in_flight and not was_exceeded(estimate, hit):
        # Ever fewer in flight, while the window is full: it was the rate.
        return _after_rate_hit(replace(estimate, in_flight=None), hit)
    elif not known.contradictions:
        # A response was on its way while its slot was taken already. If the limit really is lower, this repeats.
        limit = replace(known, step=0, contradictions=1)
    else:
        limit = Limit(accepted, known.retry_after_ms, hit.now_ms, interval_ms=interval_ms)
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    return replace(estimate, in_flight=limit, rate=_probe_later(estimate.rate, hit.now_ms))


def _after_unrelated_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """Handle a wait that is neither limit (a quota, a busy server). Drop a guess with the same Retry-After."""
    alike = [limit for limit in (estimate.rate, estimate.in_flight) if limit and fits(limit, hit.retry_after_ms)]
    if any(limit.confirmations > 1 for limit in alike) or is_any(estimate.unrelated, hit.retry_after_ms):
        # Another program uses the account, too.
        return estimate
    estimate = replace(
        estimate,
        rate=None if estimate.rate in alike else estimate.rate,
        in_flight=None if estimate.in_flight in alike else estimate.in_flight,
    )
    if hit.in_window <= 1 and hit.in_flight <= 1:
        # The only call at that time: another program has used the account up, which says nothing about this wait.
        return estimate
    unrelated = (*estimate.unrelated, hit.retry_after_ms)[-MAX_UNRELATED:]
    return replace(estimate, unrelated=unrelated, unrelated_ms=hit.now_ms)


def _corrected(estimate: Estimate, kind: Kind) -> Estimate:
    """Lower a limit that the same event set: each further 429 of the event means one fewer accepted call."""
    rate, limit = estimate.rate, estimate.in_flight
    in_window = estimate.event_in_window - estimate.event_rate_limited
    in_flight = estimate.event_in_flight - estimate.event_rate_limited
    if kind == "rate" and rate and rate.since_ms == estimate.event_ms:
        # Until now this call counted as accepted.
        uncounted = estimate.uncounted + (estimate.uncounted > 0)
        estimate = replace(estimate, reset_accepted=estimate.reset_accepted - 1, uncounted=uncounted)
        if 0 < in_window < rate.max_calls:
            base_calls = in_window if rate.base_calls else 0
            return replace(estimate, rate=replace(rate, max_calls=in_window, base_calls=base_calls))
    if kind == "in_flight" and limit and limit.since_ms == estimate.event_ms and 0 < in_flight < limit.max_calls:
        return replace(estimate, in_flight=replace(limit, max_calls=in_flight))
    return estimate


def _confirmed(known: Limit, accepted: int, now_ms: int) -> Limit:
    """Return a limit that was hit again at its number or above. After a failed probe, the next one comes later."""
    longer_ms = min(MAX_INTERVAL_MS, round(known.interval_ms * LONGER)) if known.step == 1 else known.interval_ms
    since_ms = known.since_ms if accepted == known.max_calls else now_ms
    return replace(
        known, max_calls=accepted, confirmations=known.confirmations + 1, step=0, contradictions=0,
        interval_ms=longer_ms, since_ms=since_ms,
    )  # fmt: skip


def _probe_later(limit: Limit | None, now_ms: int) -> Limit | None:
    """Return the limit without its probe, which a 429 of the other kind has cut short."""
    return limit and replace(limit, step=0, probe_at_ms=max(limit.probe_at_ms, now_ms + limit.interval_ms // 4))
