"""What calls teach about an account's limits, and what to let through next. Pure: numbers in, a belief out.

The record that the numbers come from is a replica of what the API counts: every call, refused ones included, and the
calls in flight. A refusal by a sliding window says how long the window is (its Retry-After), and the record how many
calls it holds; a refusal by concurrency says a shorter time, at a number in flight that was never accepted before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit

# While nothing is known: doubled up to here, then grown by an eighth.
DOUBLES_UP_TO = 8
GROWTH = 8
# A call that is out for so long and was not refused was let in: refusals are quick.
SETTLED_MS = 250
# Calls that took the last place, for each place, that prove it where calls are too short to be seen in flight together.
ROUNDS = 5
# The record looks back no further; longer waits are quotas, which are obeyed and not counted.
LONGEST_WINDOW_MS = 120_000
# Retry-Afters this close to each other are of one kind.
SAME_SHARE = 0.2
# A refusal at this share of what was known may be a call that came early for its place: it must repeat to be believed.
NEARLY = 0.9
# The margin grows with the window, as clocks do, and with every such refusal.
MARGIN_SHARE, LEAST_MARGIN_MS, MOST_MARGIN_MS = 0.01, 30, 250
MORE_MARGIN, MOST_MARGIN_SHARE = 1.5, 0.03
# A look for more costs a wait when it fails: for the rate what is left of a window; for calls in flight a Retry-After,
# and as long as the probe takes that goes alone after it.
FIRST_RATE_LOOK_WINDOWS, FIRST_FLIGHT_LOOK_WAITS = 7, 15
LONGER, LONGEST_INTERVAL_MS = 2, 3_600_000
# A look at the rate waits for a moment when no place comes free for this share of the window, but not for ever.
QUIET_SHARE, PATIENCE_INTERVALS = 0.33, 2
# Kinds of waits that are remembered as neither, and for how long.
MAX_UNRELATED, UNRELATED_LIFE_MS = 8, 600_000
# The calls in the window at two refusals are the same number, but for calls that came early for their places.
REPEATS = 0.1

Kind = Literal["rate", "in_flight", "other", "unsure"]


@dataclass(frozen=True, slots=True)
class RateLimitHit:
    """A refusal: its Retry-After, when its call left, and what is on record with it (see ledger.pace.Refusal)."""

    now_ms: int
    sent_ms: int
    retry_after_ms: int
    in_window: int
    in_flight: int
    peak_in_flight: int
    call_ms: int = 0  # how long calls take here


@dataclass(frozen=True, slots=True)
class PaceState:
    """A call was held back by what is believed (`reason`: 'rate' or 'flights').

    Since that was believed: accepted calls that took the last place in flight (`at_ceiling`), most calls that were in
    flight together for certain, most calls in the window before one that was accepted. `quiet_ms`: since the last call;
    `rate_bound_ms`: since calls last waited for the rate.
    """

    now_ms: int
    reason: str
    wait_ms: int
    at_ceiling: int
    peak_in_flight: int
    peak_sent: int
    quiet_ms: int
    rate_bound_ms: int


def with_margin(configured: ConfiguredLimits) -> ConfiguredLimits:
    """What a user told, kept to the server's clock."""
    return replace(
        configured,
        window_ms=configured.window_ms and configured.window_ms + _margin_ms(configured.window_ms),
        tokens_window_ms=configured.tokens_window_ms
        and configured.tokens_window_ms + _margin_ms(configured.tokens_window_ms),
    )


def informed(estimate: Estimate, configured: ConfiguredLimits) -> Estimate:
    """Who was told how many calls may be in flight need not start low."""
    return replace(estimate, start=max(estimate.start, configured.in_flight))


def refused(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """What is believed after a refusal. A burst of refusals from one cause is one event."""
    max_accepted = max(estimate.max_accepted, hit.peak_in_flight)
    unrelated = estimate.unrelated if hit.now_ms - estimate.unrelated_ms < UNRELATED_LIFE_MS else ()
    estimate = replace(estimate, max_accepted=max_accepted, unrelated=unrelated, call_ms=hit.call_ms)
    kind = _kind(estimate, hit)
    if hit.sent_ms <= estimate.event_ms:
        return _corrected(replace(estimate, event_rate_limited=estimate.event_rate_limited + 1), kind)
    estimate = replace(
        estimate,
        event_ms=hit.now_ms,
        event_in_window=hit.in_window,
        event_in_flight=hit.in_flight,
        event_rate_limited=1,
    )
    match kind:
        case "rate":
            return _rate_refused(estimate, hit)
        case "in_flight":
            return _flights_refused(estimate, hit)
        case "unsure":
            # So many were in flight once, and perhaps no longer may be: the next refusal is seen without that.
            return replace(estimate, max_accepted=0)
    return _obeyed_only(estimate, hit)


def grown(estimate: Estimate, denied: PaceState) -> Estimate | None:
    """What is believed when more may be let through than the call was denied by; None: nothing new."""
    settled = denied.quiet_ms >= SETTLED_MS
    if denied.reason == "in_flight" and estimate.rate:
        held_ms = min(denied.rate_bound_ms, denied.now_ms - estimate.rate.since_ms)
        if held_ms <= 2 * estimate.rate.retry_after_ms:
            # The rate is what holds the account: more calls at a time would bring nothing, and a look costs a wait.
            return None
    limit = estimate.rate if denied.reason == "rate" else estimate.in_flight
    if limit is None:
        if denied.reason != "in_flight":
            return None
        seen = denied.peak_in_flight >= estimate.start or denied.at_ceiling >= max(1, estimate.start // 2)
        if not seen and not settled:
            return None
        more = estimate.start if estimate.start < DOUBLES_UP_TO else estimate.start // GROWTH
        return replace(
            estimate, start=estimate.start + more, max_accepted=max(estimate.max_accepted, denied.peak_in_flight)
        )
    if limit.step:
        if not settled and not _was_accepted(limit, denied):
            return None
        # Calls in flight are tried one after the other, so that those beyond what is accepted are few.
        step = limit.step * 2 if denied.reason == "rate" else max(1, limit.allowed // GROWTH)
        found = replace(
            limit, most=limit.allowed, step=step, confirmations=0, since_ms=denied.now_ms, contradictions=0,
            interval_ms=_first_interval_ms(estimate, denied.reason, limit.retry_after_ms),
        )  # fmt: skip
    elif denied.now_ms >= limit.probe_at_ms and _is_good_moment(limit, denied):
        found = replace(limit, step=1)
    else:
        return None
    return replace(estimate, rate=found) if denied.reason == "rate" else replace(estimate, in_flight=found)


def _was_accepted(limit: Limit, denied: PaceState) -> bool:
    if denied.reason == "rate":
        # The call that took the last place; before it, there were one fewer in the window.
        return denied.peak_sent + 1 >= limit.allowed
    # An answer that is on its way back has freed a place at the API before it does here: one call proves nothing.
    return denied.peak_in_flight >= limit.allowed or denied.at_ceiling >= ROUNDS * limit.allowed


def _is_good_moment(limit: Limit, denied: PaceState) -> bool:
    if denied.reason != "rate":
        return True
    if denied.wait_ms >= limit.retry_after_ms * QUIET_SHARE:
        return True
    return denied.now_ms >= limit.probe_at_ms + PATIENCE_INTERVALS * limit.interval_ms


def _kind(estimate: Estimate, hit: RateLimitHit) -> Kind:
    retry_after_ms = hit.retry_after_ms
    alone = hit.in_flight <= 1 and hit.in_window <= 1
    if alone or retry_after_ms > LONGEST_WINDOW_MS or any(_same(each, retry_after_ms) for each in estimate.unrelated):
        return "other"
    if estimate.rate and _same(estimate.rate.retry_after_ms, retry_after_ms):
        return "rate" if hit.in_window > 1 else "other"
    kind: Kind = "rate"
    if estimate.in_flight and _same(estimate.in_flight.retry_after_ms, retry_after_ms):
        if hit.in_flight > 1:
            return "in_flight"
        if estimate.in_flight.confirmations > 1:
            return "other"
        # Refused though it was the only one out: what was met once, in these words, was the rate.
    elif hit.in_window < 3 * hit.in_flight:
        # A new kind, and few in the window. Calls in flight can be the cause only when so many were never accepted.
        kind = "in_flight" if hit.in_flight > max(1, estimate.max_accepted) else "unsure"
    known = estimate.rate if kind == "rate" else estimate.in_flight
    # What repeated is not given up for what is new; "busy" says a time of its own, and is neither.
    return "other" if known and known.confirmations > 1 else kind


def _same(one_ms: int, other_ms: int) -> bool:
    return abs(one_ms - other_ms) <= SAME_SHARE * max(one_ms, other_ms)


def _corrected(estimate: Estimate, kind: Kind) -> Estimate:
    """Lower a limit that the same event set: each further 429 of the event means one fewer accepted call."""
    rate, limit = estimate.rate, estimate.in_flight
    in_window = estimate.event_in_window - estimate.event_rate_limited
    in_flight = estimate.event_in_flight - estimate.event_rate_limited
    if kind == "rate" and rate and rate.since_ms == estimate.event_ms and 0 < in_window < rate.most:
        return replace(estimate, rate=replace(rate, most=in_window))
    if kind == "in_flight" and limit and limit.since_ms == estimate.event_ms and 0 < in_flight < limit.most:
        return replace(estimate, in_flight=replace(limit, most=in_flight))
    return estimate


def _rate_refused(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, window_ms, most = estimate.rate, hit.retry_after_ms, hit.in_window - 1
    margin_ms = max(estimate.margin_ms, _margin_ms(window_ms))
    interval_ms = _first_interval_ms(estimate, "rate", window_ms)
    if known is None or not _same(known.retry_after_ms, window_ms):
        limit = Limit(most, window_ms, hit.now_ms, interval_ms=interval_ms, seen_with=hit.in_flight)
    elif most >= known.most:
        limit = _confirmed(known, min(most, known.allowed), hit.now_ms)
    elif most >= known.most * NEARLY and not known.contradictions:
        limit = replace(known, step=0, contradictions=1)
        margin_ms = round(min(margin_ms * MORE_MARGIN, max(LEAST_MARGIN_MS, window_ms * MOST_MARGIN_SHARE)))
    elif (
        known.confirmations == 1
        and hit.in_flight > max(1, estimate.max_accepted)
        and _repeats(known.seen_with, hit.in_flight)
    ):
        # Fewer in the window this time, and as many in flight: calls are so short that it was mistaken for a rate.
        return _flights_refused(replace(estimate, rate=None), hit)
    else:
        limit = Limit(most, known.retry_after_ms, hit.now_ms, interval_ms=interval_ms)
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    # What was taken for a limit in flight by the same words was this one.
    mistaken = estimate.in_flight and _same(estimate.in_flight.retry_after_ms, window_ms)
    in_flight = None if mistaken else _not_looking(estimate.in_flight, hit.now_ms)
    return replace(estimate, rate=limit, in_flight=in_flight, margin_ms=margin_ms)


def _flights_refused(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    known, most = estimate.in_flight, max(1, hit.in_flight - 1)
    interval_ms = _first_interval_ms(estimate, "in_flight", hit.retry_after_ms)
    if known is None or not _same(known.retry_after_ms, hit.retry_after_ms):
        limit = Limit(most, hit.retry_after_ms, hit.now_ms, interval_ms=interval_ms, seen_with=hit.in_window)
    elif most >= known.most or known.step:
        # Of a look, an answer may have come meanwhile: the number in flight is one lower than it was.
        limit = _confirmed(known, max(known.most, min(most, known.allowed)), hit.now_ms)
    elif known.confirmations == 1 and hit.in_window > hit.in_flight and _repeats(known.seen_with, hit.in_window):
        # What repeats is not the number in flight: it was the rate, met while its calls were still out.
        return _rate_refused(replace(estimate, in_flight=None), hit)
    elif not known.contradictions:
        # An answer was on its way while its place was taken already; if there really is less now, this repeats.
        limit = replace(known, step=0, contradictions=1)
    else:
        limit = Limit(most, known.retry_after_ms, hit.now_ms, interval_ms=interval_ms)
    limit = replace(limit, probe_at_ms=hit.now_ms + limit.interval_ms)
    return replace(estimate, in_flight=limit, rate=_not_looking(estimate.rate, hit.now_ms))


def _margin_ms(window_ms: int) -> int:
    return max(LEAST_MARGIN_MS, min(MOST_MARGIN_MS, round(window_ms * MARGIN_SHARE)))


def _confirmed(known: Limit, most: int, now_ms: int) -> Limit:
    """Refused at the known number or above: it holds. A look that found nothing makes the next one come later."""
    longer = min(LONGEST_INTERVAL_MS, round(known.interval_ms * LONGER)) if known.step == 1 else known.interval_ms
    since_ms = known.since_ms if most == known.most else now_ms
    return replace(
        known,
        most=most,
        confirmations=known.confirmations + 1,
        step=0,
        contradictions=0,
        interval_ms=longer,
        since_ms=since_ms,
    )


def _not_looking(limit: Limit | None, now_ms: int) -> Limit | None:
    """A look that another refusal has broken off: later again."""
    return limit and replace(limit, step=0, probe_at_ms=max(limit.probe_at_ms, now_ms + limit.interval_ms // 4))


def _repeats(one: int, other: int) -> bool:
    return abs(one - other) <= max(1, REPEATS * max(one, other))


def _obeyed_only(estimate: Estimate, hit: RateLimitHit) -> Estimate:
    """A wait that is neither limit: a quota, a busy server. A guess made from the same words, once, is given up."""
    retry_after_ms = hit.retry_after_ms
    alike = [
        limit for limit in (estimate.rate, estimate.in_flight) if limit and _same(limit.retry_after_ms, retry_after_ms)
    ]
    if any(limit.confirmations > 1 for limit in alike) or any(
        _same(each, retry_after_ms) for each in estimate.unrelated
    ):
        # Somebody else uses the account, too.
        return estimate
    estimate = replace(
        estimate,
        rate=None if estimate.rate in alike else estimate.rate,
        in_flight=None if estimate.in_flight in alike else estimate.in_flight,
    )
    if hit.in_window <= 1 and hit.in_flight <= 1:
        # The only call of its time: somebody else has used the account up, which says nothing about these words.
        return estimate
    return replace(estimate, unrelated=(*estimate.unrelated, retry_after_ms)[-MAX_UNRELATED:], unrelated_ms=hit.now_ms)


def _first_interval_ms(estimate: Estimate, reason: str, retry_after_ms: int) -> int:
    if reason == "rate":
        return retry_after_ms * FIRST_RATE_LOOK_WINDOWS
    return (retry_after_ms + estimate.call_ms) * FIRST_FLIGHT_LOOK_WAITS
