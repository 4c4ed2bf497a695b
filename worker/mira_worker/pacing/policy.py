"""Policy of the pacer: what calls show about an account's limits, and what to allow next. Pure.

The numbers come from a record of what the API counts: every call, rate-limited ones included, and the calls in flight.
The 429 of a sliding window gives the length of the window (its Retry-After), and the record gives the calls in it. The
429 of a concurrency limit gives a shorter time, at a number in flight that was never accepted before.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from mira_queue.contract import names
from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState, RateLimitHit

# While no limit is known, the allowed calls double up to here, then grow by an eighth.
DOUBLES_UP_TO = 8
START_GROWTH, GROWTH = 4, 8
# A call that has been in flight for this long was accepted: 429s come quickly.
SETTLED_MS, START_SETTLED_MS = 250, 120
# Calls that took the last slot, per slot, that prove it if calls are too short to be seen in flight together.
ROUNDS = 5
# The record goes back no further. Longer waits are quotas: they are honored, but not counted.
MAX_WINDOW_MS = round(names.CALL_HISTORY.total_seconds() * 1000)
# Retry-Afters this close to each other are of the same kind.
SAME_SHARE = 0.2
# A 429 at this share of the known limit may be a call that arrived too early. It counts when it repeats.
NEARLY = 0.9
# The margin grows with the window, as clock drift does, and with each such 429.
MARGIN_SHARE, MIN_MARGIN_MS, MAX_MARGIN_MS = 0.01, 30, 250
MORE_MARGIN, MAX_MARGIN_SHARE = 1.5, 0.03
# A probe for more costs a wait if it fails. For the rate, that is the rest of a window. For calls in flight, it is a
# Retry-After, and the duration of the probe that goes alone after it.
FIRST_RATE_PROBE_WINDOWS, FIRST_IN_FLIGHT_PROBE_WAITS = 7, 15
LONGER, MIN_INTERVAL_MS, MAX_INTERVAL_MS = 2, 30_000, 3_600_000
# A probe for a higher rate waits until no slot becomes free for this share of the window, but not forever.
# Probes of a limit that lets nothing through are no further apart, unless it asks for more.
MAX_PROBE_WAIT_MS = 60_000
# What lasted longer was not leaked slots.
MAX_BLOCKED_MS = 600_000
# Jobs after which more may follow.
MANY_JOBS = 1000
# The wait of an expected concurrency limit, until a 429 states it.
EXPECTED_RETRY_AFTER_MS = 5000
QUIET_SHARE, PATIENCE_INTERVALS = 0.33, 2
# Retry-Afters that are remembered as neither limit, and for how long.
MAX_UNRELATED, UNRELATED_TTL_MS = 8, 600_000
# Two counts of calls in the window are the same number up to this share: some calls arrive too early.
REPEATS = 0.1

# A wait that is not a multiple of this was computed.
ROUND_MS = 100
# Waits are rounded up to this.
ROUNDED_MS = 1000
# Two events of the rate limit that are further apart do not show what it admits: the account may have been idle.
PERIODS, BUSY = 3, 0.8

Kind = Literal["rate", "in_flight", "other", "unsure"]


def with_margin(configured: ConfiguredLimits) -> ConfiguredLimits:
    """Return the configured limits with windows that the server's clock cannot cut short."""
    window_ms, tokens_window_ms = (
        each and each + _margin_ms(each) for each in (configured.window_ms, configured.tokens_window_ms)
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
    rate = _expected(configured.expected_rate, configured.expected_window_ms, "rate", now_ms)
    in_flight = _expected(configured.expected_in_flight, EXPECTED_RETRY_AFTER_MS, "in_flight", now_ms)
    margin_ms = _margin_ms(configured.expected_window_ms) if rate else 0
    return replace(estimate, rate=rate, in_flight=in_flight, margin_ms=margin_ms)


def _expected(max_calls: int, retry_after_ms: int, reason: str, now_ms: int) -> Limit | None:
    interval_ms = _first_interval_ms(Estimate(), reason, retry_after_ms)
    limit = Limit(
        max_calls, retry_after_ms, now_ms, confirmations=0, probe_at_ms=now_ms + interval_ms, interval_ms=interval_ms
    )
    return limit if max_calls else None


def settled_in_ms(estimate: Estimate, state: PaceState) -> int:
    """Return when to ask again: while no concurrency limit is known, as soon as the last call has settled."""
    if state.reason != "in_flight" or estimate.in_flight or state.quiet_ms >= START_SETTLED_MS:
        return state.wait_ms
    return min(state.wait_ms, START_SETTLED_MS - state.quiet_ms)


def is_worth_probing(limit: Limit, reason: str, call_ms: int, open_jobs: int) -> bool:
    """Return True if a probe for more may gain time: what remains takes longer than the interval between two probes.

    A file's engine submits its lines as it goes: from MANY_JOBS on, more may follow.
    """
    period_ms = limit.window_ms if reason == "rate" else max(1, call_ms)
    first_ms = limit.window_ms * FIRST_RATE_PROBE_WINDOWS if reason == "rate" else (limit.retry_after_ms + call_ms) * FIRST_IN_FLIGHT_PROBE_WAITS
    return open_jobs >= min(MANY_JOBS, first_ms / period_ms * limit.max_calls)


def after_rate_limit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """Return the estimate after a 429. A burst of 429s with one cause is one event."""
    max_accepted = max(estimate.max_accepted, hit.peak_in_flight)
    unrelated = estimate.unrelated if hit.now_ms - estimate.unrelated_ms < UNRELATED_TTL_MS else ()
    estimate = replace(estimate, max_accepted=max_accepted, unrelated=unrelated, call_ms=hit.call_ms)
    kind = _kind(estimate, hit)
    if hit.sent_ms <= estimate.event_ms:
        # Until now this call counted as accepted.
        estimate = replace(estimate, event_accepted=estimate.event_accepted - 1)
        return _corrected(replace(estimate, event_rate_limited=estimate.event_rate_limited + 1), kind)
    estimate = replace(
        _blocked(estimate, hit, kind),
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


def _blocked(estimate: Estimate, hit: RateLimitHit, kind: Kind) -> Estimate:
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
    if _fits(estimate.in_flight, retry_after_ms):
        wait_ms = max(wait_ms, estimate.blocked_ms + estimate.blocked_for_ms - hit.now_ms)
    return replace(estimate, blocked_repeats=repeats, wait_ms=wait_ms)


def grown(estimate: Estimate, state: PaceState) -> Estimate | None:
    """Return the estimate if more calls may be allowed than those that made a call wait; None if not."""
    settled = state.quiet_ms >= SETTLED_MS
    if state.reason == "in_flight" and estimate.rate:
        held_ms = min(state.rate_bound_ms, state.now_ms - estimate.rate.since_ms)
        if held_ms <= 2 * estimate.rate.retry_after_ms:
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
            interval_ms=_first_interval_ms(estimate, state.reason, limit.retry_after_ms),
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
    if state.reason != "rate" or state.wait_ms >= limit.retry_after_ms * QUIET_SHARE:
        return True
    return state.now_ms >= limit.probe_at_ms + PATIENCE_INTERVALS * limit.interval_ms


def _kind(estimate: Estimate, hit: RateLimitHit) -> Kind:
    retry_after_ms, rate = hit.retry_after_ms, estimate.rate
    is_new = hit.in_flight > max(1, estimate.max_accepted)
    alone = hit.in_flight <= 1 and hit.in_window <= 1
    if retry_after_ms > MAX_WINDOW_MS or _is_any(estimate.unrelated, retry_after_ms):
        return "other"
    if _is_computed(retry_after_ms) and (not rate or rate.measured_ms or rate.confirmations <= 1):
        return "rate"
    if alone:
        return "other"
    if _fits(rate, retry_after_ms):
        return "rate" if hit.in_window > 1 else "other"
    kind: Kind = "rate"
    if estimate.in_flight and _fits(estimate.in_flight, retry_after_ms):
        if hit.in_flight > 1:
            return "in_flight"
        if estimate.in_flight.confirmations > 1 or not _was_the_other(estimate, estimate.in_flight, hit, hit.in_window, above=1):
            return "other"
        # Rate-limited although it was alone in flight: what has this Retry-After, once, was the rate.
    elif rate and (rate.measured_ms or rate.confirmations <= 1) and not is_new and _had_a_window(estimate, rate, hit):
        return "rate"
    elif hit.in_window < 3 * hit.in_flight or _was_exceeded(estimate, hit):
        # A new kind, with few calls in the window. It is concurrency only if this many were never accepted.
        kind = "in_flight" if is_new else "unsure"
    known = estimate.rate if kind == "rate" else estimate.in_flight
    # A confirmed limit is not given up for a new one. A busy server sends its own Retry-After, which is neither.
    return "other" if known and known.confirmations > 1 else kind


def _is_computed(retry_after_ms: int) -> bool:
    """Return True if a server has computed this wait: it says when its limit admits the next call."""
    return retry_after_ms % ROUND_MS != 0


def _had_a_window(estimate: Estimate, rate: Limit, hit: RateLimitHit) -> bool:
    """Return True if a rate limit admitted its calls since its last event: its window is longer than it stated."""
    return hit.retry_after_ms <= rate.window_ms and hit.accepted - estimate.reset_accepted >= rate.max_calls * NEARLY


def _was_exceeded(estimate: Estimate, hit: RateLimitHit) -> bool:
    """Return True if as many calls were accepted in an earlier window: this one is not full."""
    is_recent = hit.now_ms - estimate.changed_ms <= MAX_WINDOW_MS
    return not is_recent and hit.peak_window - estimate.event_rate_limited >= hit.in_window


def _same(one_ms: int, other_ms: int) -> bool:
    return abs(one_ms - other_ms) <= SAME_SHARE * max(one_ms, other_ms)


def _is_any(waits_ms: tuple[int, ...], retry_after_ms: int) -> bool:
    return any(_same(each, retry_after_ms) for each in waits_ms)


def _fits(limit: Limit | None, retry_after_ms: int) -> bool:
    return limit is not None and _same(limit.retry_after_ms, retry_after_ms)


def _corrected(estimate: Estimate, kind: Kind) -> Estimate:
    """Lower a limit that the same event set: each further 429 of the event means one fewer accepted call."""
    rate, limit = estimate.rate, estimate.in_flight
    in_window = estimate.event_in_window - estimate.event_rate_limited
    in_flight = estimate.event_in_flight - estimate.event_rate_limited
    if kind == "rate" and rate and rate.since_ms == estimate.event_ms:
        # Until now this call counted as accepted.
        estimate = replace(estimate, reset_accepted=estimate.reset_accepted - 1)
        if 0 < in_window < rate.max_calls:
            base_calls = in_window if rate.base_calls else 0
            return replace(estimate, rate=replace(rate, max_calls=in_window, base_calls=base_calls))
    if kind == "in_flight" and limit and limit.since_ms == estimate.event_ms and 0 < in_flight < limit.max_calls:
        return replace(estimate, in_flight=replace(limit, max_calls=in_flight))
    return estimate


def _after_rate_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, window_ms = estimate.rate, hit.retry_after_ms
    accepted = (hit.in_known_window if known and known.measured_ms else hit.in_window) - 1
    reset_ms, period_ms = hit.now_ms + window_ms, hit.now_ms + window_ms - estimate.reset_ms
    calls = hit.accepted - estimate.reset_accepted
    estimate = replace(estimate, reset_ms=reset_ms, reset_accepted=hit.accepted)
    margin_ms = max(estimate.margin_ms, _margin_ms(window_ms))
    interval_ms = _first_interval_ms(estimate, "rate", window_ms)
    if known and _is_measurable(known, window_ms, period_ms, calls, accepted):
        limit = _measured(known, hit, period_ms, calls)
        # Each further 429 of the event means one fewer of these calls.
        estimate = replace(estimate, event_in_window=calls + 1 if limit.max_calls == calls else 0)
        # A limiter with a short window is a bucket: it forgives a call that is a little early.
        margin_ms = round(min(MAX_MARGIN_MS, limit.window_ms * MARGIN_SHARE))
    elif known is None or not (known.measured_ms or _fits(known, window_ms)):
        limit = Limit(max(1, accepted), window_ms, hit.now_ms, interval_ms=interval_ms, seen_with=hit.in_flight, measured_ms=window_ms if _is_computed(window_ms) else 0)
    elif accepted >= known.max_calls:
        limit = _confirmed(known, min(accepted, known.allowed), hit.now_ms)
    elif accepted >= known.max_calls * NEARLY and not known.contradictions:
        limit = replace(known, step=0, contradictions=1)
        margin_ms = round(min(margin_ms * MORE_MARGIN, max(MIN_MARGIN_MS, window_ms * MAX_MARGIN_SHARE)))
    elif _was_the_other(estimate, known, hit, hit.in_flight, above=max(1, estimate.max_accepted)):
        # Fewer in the window, as many in flight: calls are so short that concurrency looked like a rate.
        return _after_in_flight_hit(replace(estimate, rate=None), hit)
    else:
        limit = Limit(max(1, accepted), known.retry_after_ms, hit.now_ms, interval_ms=interval_ms, measured_ms=known.measured_ms)
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    # A concurrency limit with the same Retry-After was this rate limit.
    was_mistaken = _fits(estimate.in_flight, window_ms)
    in_flight = None if was_mistaken else _probe_later(estimate.in_flight, hit.now_ms)
    return replace(estimate, rate=limit, in_flight=in_flight, margin_ms=margin_ms)


def _after_in_flight_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, accepted = estimate.in_flight, max(1, hit.in_flight - 1)
    interval_ms = _first_interval_ms(estimate, "in_flight", hit.retry_after_ms)
    if known is None or not _fits(known, hit.retry_after_ms):
        limit = Limit(accepted, hit.retry_after_ms, hit.now_ms, interval_ms=interval_ms, seen_with=hit.in_window)
    elif accepted >= known.max_calls or known.step:
        # A response may have arrived during the probe: the number in flight is then one lower than it was.
        limit = _confirmed(known, max(known.max_calls, min(accepted, known.allowed)), hit.now_ms)
    elif _was_the_other(estimate, known, hit, hit.in_window, above=hit.in_flight):
        # The number in the window repeats, not the one in flight: it was the rate, hit while its calls were in flight.
        return _after_rate_hit(replace(estimate, in_flight=None), hit)
    elif known.contradictions and hit.in_window >= 3 * hit.in_flight and not _was_exceeded(estimate, hit):
        # Ever fewer in flight, while the window is full: it was the rate.
        return _after_rate_hit(replace(estimate, in_flight=None), hit)
    elif not known.contradictions:
        # A response was on its way while its slot was taken already. If the limit really is lower, this repeats.
        limit = replace(known, step=0, contradictions=1)
    else:
        limit = Limit(accepted, known.retry_after_ms, hit.now_ms, interval_ms=interval_ms)
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    return replace(estimate, in_flight=limit, rate=_probe_later(estimate.rate, hit.now_ms))


def _is_measurable(known: Limit, wait_ms: int, period_ms: int, calls: int, accepted: int) -> bool:
    """Return True if the calls since the last event show the rate: the limiter was used up at both times.

    If the events are further apart, the account may have been idle.
    """
    if calls <= 0 or period_ms <= 0:
        return False
    if not known.measured_ms and _fits(known, wait_ms):
        # It may be the window, or a rounded wait.
        share = calls * known.window_ms / (known.max_calls * period_ms)
        is_longer = calls >= NEARLY * known.max_calls and share <= 0.75
        if known.confirmations > 1 or accepted >= known.max_calls or not (is_longer or wait_ms <= ROUNDED_MS):
            return False
    was_busy = calls * known.window_ms >= BUSY * (known.base_calls or known.max_calls) * period_ms
    return was_busy or period_ms <= PERIODS * max(known.window_ms, wait_ms)


def _measured(known: Limit, hit: RateLimitHit, period_ms: int, calls: int) -> Limit:
    """Return the limit that admits so many calls in such a period. Its window stays as long as it was, about."""
    # A 429 never raises a rate.
    period_ms = max(period_ms, -(-calls * known.window_ms // known.max_calls))
    windows = max(1, round(period_ms / known.window_ms)) if known.measured_ms else 1
    if windows == 1 and not _is_computed(hit.retry_after_ms) and period_ms >= 2 * ROUNDED_MS:
        # Both ends are rounded up to a second. A window that is too short is noticed; one that is too long is not.
        period_ms = max(known.window_ms, period_ms // ROUNDED_MS * ROUNDED_MS)
    max_calls = -(-calls // windows)
    window_ms = -(-max_calls * period_ms // calls)
    first_ms = _first_interval_ms(None, "rate", window_ms)
    base_calls = known.base_calls or known.max_calls
    has_failed = known.step > 0 and max_calls * known.window_ms <= (1 + REPEATS) * base_calls * window_ms
    interval_ms = min(MAX_INTERVAL_MS, known.interval_ms * LONGER) if has_failed else first_ms
    return Limit(
        max_calls, hit.retry_after_ms, hit.now_ms, known.confirmations + has_failed,
        interval_ms=interval_ms, base_calls=max_calls, measured_ms=window_ms,
    )


def _was_the_other(estimate: Estimate, known: Limit, hit: RateLimitHit, seen_with: int, *, above: int) -> bool:
    """Return True if a limit that was hit once was the other kind: what it was seen with repeats, not its number."""
    same = abs(known.seen_with - seen_with) <= max(1, REPEATS * max(known.seen_with, seen_with))
    return known.confirmations == 1 and seen_with > above and same and not _was_exceeded(estimate, hit)


def _margin_ms(window_ms: int) -> int:
    return max(MIN_MARGIN_MS, min(MAX_MARGIN_MS, round(window_ms * MARGIN_SHARE)))


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


def _after_unrelated_hit(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """Handle a wait that is neither limit (a quota, a busy server). Drop a guess with the same Retry-After."""
    alike = [limit for limit in (estimate.rate, estimate.in_flight) if limit and _fits(limit, hit.retry_after_ms)]
    if any(limit.confirmations > 1 for limit in alike) or _is_any(estimate.unrelated, hit.retry_after_ms):
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


def _first_interval_ms(estimate: Estimate, reason: str, retry_after_ms: int) -> int:
    if reason == "rate":
        return max(MIN_INTERVAL_MS, retry_after_ms * FIRST_RATE_PROBE_WINDOWS)
    return (retry_after_ms + estimate.call_ms) * FIRST_IN_FLIGHT_PROBE_WAITS
