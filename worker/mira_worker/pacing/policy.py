"""What calls teach about an account's limits, and what to let through next. Pure: numbers in, a belief out.

The record that the numbers come from is a replica of what the API counts: every call, refused ones included, and the
calls in flight. A refusal by a sliding window says how long the window is (its Retry-After), and the record how many
calls it holds; a refusal by concurrency says a shorter time, at a number in flight that was never accepted before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from mira_queue.contract.pace import Belief, Limit, Told

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
MOST_OTHERS, OTHERS_LIFE_MS = 8, 600_000
# The calls in the window at two refusals are the same number, but for calls that came early for their places.
REPEATS = 0.1

Kind = Literal["rate", "in_flight", "other", "unsure"]


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal: its Retry-After, when its call left, and what is on record with it (see ledger.pace.Refusal)."""

    now_ms: int
    left_ms: int
    retry_after_ms: int
    in_window: int
    flying: int
    peak_flying: int
    call_ms: int = 0  # how long calls take here


@dataclass(frozen=True, slots=True)
class Denied:
    """A call was held back by what is believed (`reason`: 'rate' or 'flights').

    Since that was believed: accepted calls that took the last place in flight (`at_ceiling`), most calls that were in
    flight together for certain, most calls in the window before one that was accepted. `quiet_ms`: since the last call;
    `rate_bound_ms`: since calls last waited for the rate.
    """

    now_ms: int
    reason: str
    wait_ms: int
    at_ceiling: int
    peak_flying: int
    peak_sent: int
    quiet_ms: int
    rate_bound_ms: int


def with_margin(told: Told) -> Told:
    """What a user told, kept to the server's clock."""
    return replace(
        told,
        window_ms=told.window_ms and told.window_ms + _margin_ms(told.window_ms),
        tokens_window_ms=told.tokens_window_ms and told.tokens_window_ms + _margin_ms(told.tokens_window_ms),
    )


def informed(belief: Belief, told: Told) -> Belief:
    """Who was told how many calls may be in flight need not start low."""
    return replace(belief, start=max(belief.start, told.in_flight))


def refused(belief: Belief, refusal: Refused) -> Belief:
    """What is believed after a refusal. A burst of refusals from one cause is one event."""
    proven = max(belief.proven, refusal.peak_flying)
    others = belief.others if refusal.now_ms - belief.others_ms < OTHERS_LIFE_MS else ()
    belief = replace(belief, proven=proven, others=others, call_ms=refusal.call_ms)
    kind = _kind(belief, refusal)
    if refusal.left_ms <= belief.event_ms:
        return _corrected(replace(belief, event_refused=belief.event_refused + 1), kind)
    belief = replace(
        belief,
        event_ms=refusal.now_ms,
        event_in_window=refusal.in_window,
        event_flying=refusal.flying,
        event_refused=1,
    )
    match kind:
        case "rate":
            return _rate_refused(belief, refusal)
        case "in_flight":
            return _flights_refused(belief, refusal)
        case "unsure":
            # So many were in flight once, and perhaps no longer may be: the next refusal is seen without that.
            return replace(belief, proven=0)
    return _obeyed_only(belief, refusal)


def grown(belief: Belief, denied: Denied) -> Belief | None:
    """What is believed when more may be let through than the call was denied by; None: nothing new."""
    settled = denied.quiet_ms >= SETTLED_MS
    if denied.reason == "flights" and belief.rate:
        held_ms = min(denied.rate_bound_ms, denied.now_ms - belief.rate.since_ms)
        if held_ms <= 2 * belief.rate.retry_after_ms:
            # The rate is what holds the account: more calls at a time would bring nothing, and a look costs a wait.
            return None
    limit = belief.rate if denied.reason == "rate" else belief.in_flight
    if limit is None:
        if denied.reason != "flights":
            return None
        seen = denied.peak_flying >= belief.start or denied.at_ceiling >= max(1, belief.start // 2)
        if not seen and not settled:
            return None
        more = belief.start if belief.start < DOUBLES_UP_TO else belief.start // GROWTH
        return replace(belief, start=belief.start + more, proven=max(belief.proven, denied.peak_flying))
    if limit.step:
        if not settled and not _was_accepted(limit, denied):
            return None
        # Calls in flight are tried one after the other, so that those beyond what is accepted are few.
        step = limit.step * 2 if denied.reason == "rate" else max(1, limit.let_through // GROWTH)
        found = replace(
            limit, most=limit.let_through, step=step, sure=0, since_ms=denied.now_ms, doubts=0,
            interval_ms=_first_interval_ms(belief, denied.reason, limit.retry_after_ms),
        )  # fmt: skip
    elif denied.now_ms >= limit.look_ms and _is_good_moment(limit, denied):
        found = replace(limit, step=1)
    else:
        return None
    return replace(belief, rate=found) if denied.reason == "rate" else replace(belief, in_flight=found)


def _was_accepted(limit: Limit, denied: Denied) -> bool:
    if denied.reason == "rate":
        # The call that took the last place; before it, there were one fewer in the window.
        return denied.peak_sent + 1 >= limit.let_through
    # An answer that is on its way back has freed a place at the API before it does here: one call proves nothing.
    return denied.peak_flying >= limit.let_through or denied.at_ceiling >= ROUNDS * limit.let_through


def _is_good_moment(limit: Limit, denied: Denied) -> bool:
    if denied.reason != "rate":
        return True
    if denied.wait_ms >= limit.retry_after_ms * QUIET_SHARE:
        return True
    return denied.now_ms >= limit.look_ms + PATIENCE_INTERVALS * limit.interval_ms


def _kind(belief: Belief, refusal: Refused) -> Kind:
    retry_after_ms = refusal.retry_after_ms
    alone = refusal.flying <= 1 and refusal.in_window <= 1
    if alone or retry_after_ms > LONGEST_WINDOW_MS or any(_same(each, retry_after_ms) for each in belief.others):
        return "other"
    if belief.rate and _same(belief.rate.retry_after_ms, retry_after_ms):
        return "rate" if refusal.in_window > 1 else "other"
    kind: Kind = "rate"
    if belief.in_flight and _same(belief.in_flight.retry_after_ms, retry_after_ms):
        if refusal.flying > 1:
            return "in_flight"
        if belief.in_flight.sure > 1:
            return "other"
        # Refused though it was the only one out: what was met once, in these words, was the rate.
    elif refusal.in_window < 3 * refusal.flying:
        # A new kind, and few in the window. Calls in flight can be the cause only when so many were never accepted.
        kind = "in_flight" if refusal.flying > max(1, belief.proven) else "unsure"
    known = belief.rate if kind == "rate" else belief.in_flight
    # What repeated is not given up for what is new; "busy" says a time of its own, and is neither.
    return "other" if known and known.sure > 1 else kind


def _same(one_ms: int, other_ms: int) -> bool:
    return abs(one_ms - other_ms) <= SAME_SHARE * max(one_ms, other_ms)


def _corrected(belief: Belief, kind: Kind) -> Belief:
    """One more refusal of the same event: of what was out when it began, one fewer was let in than was thought."""
    rate, in_flight = belief.rate, belief.in_flight
    in_window = belief.event_in_window - belief.event_refused
    flying = belief.event_flying - belief.event_refused
    if kind == "rate" and rate and rate.since_ms == belief.event_ms and 0 < in_window < rate.most:
        return replace(belief, rate=replace(rate, most=in_window))
    if kind == "in_flight" and in_flight and in_flight.since_ms == belief.event_ms and 0 < flying < in_flight.most:
        return replace(belief, in_flight=replace(in_flight, most=flying))
    return belief


def _rate_refused(belief: Belief, refusal: Refused) -> Belief:
    known, window_ms, most = belief.rate, refusal.retry_after_ms, refusal.in_window - 1
    margin_ms = max(belief.margin_ms, _margin_ms(window_ms))
    interval_ms = _first_interval_ms(belief, "rate", window_ms)
    if known is None or not _same(known.retry_after_ms, window_ms):
        limit = Limit(most, window_ms, refusal.now_ms, interval_ms=interval_ms, beside=refusal.flying)
    elif most >= known.most:
        limit = _confirmed(known, min(most, known.let_through), refusal.now_ms)
    elif most >= known.most * NEARLY and not known.doubts:
        limit = replace(known, step=0, doubts=1)
        margin_ms = round(min(margin_ms * MORE_MARGIN, max(LEAST_MARGIN_MS, window_ms * MOST_MARGIN_SHARE)))
    elif known.sure == 1 and refusal.flying > max(1, belief.proven) and _repeats(known.beside, refusal.flying):
        # Fewer in the window this time, and as many in flight: calls are so short that it was mistaken for a rate.
        return _flights_refused(replace(belief, rate=None), refusal)
    else:
        limit = Limit(most, known.retry_after_ms, refusal.now_ms, interval_ms=interval_ms)
    limit = replace(limit, look_ms=refusal.now_ms + limit.interval_ms)
    # What was taken for a limit in flight by the same words was this one.
    mistaken = belief.in_flight and _same(belief.in_flight.retry_after_ms, window_ms)
    in_flight = None if mistaken else _not_looking(belief.in_flight, refusal.now_ms)
    return replace(belief, rate=limit, in_flight=in_flight, margin_ms=margin_ms)


def _flights_refused(belief: Belief, refusal: Refused) -> Belief:
    known, most = belief.in_flight, max(1, refusal.flying - 1)
    interval_ms = _first_interval_ms(belief, "flights", refusal.retry_after_ms)
    if known is None or not _same(known.retry_after_ms, refusal.retry_after_ms):
        limit = Limit(most, refusal.retry_after_ms, refusal.now_ms, interval_ms=interval_ms, beside=refusal.in_window)
    elif most >= known.most or known.step:
        # Of a look, an answer may have come meanwhile: the number in flight is one lower than it was.
        limit = _confirmed(known, max(known.most, min(most, known.let_through)), refusal.now_ms)
    elif known.sure == 1 and refusal.in_window > refusal.flying and _repeats(known.beside, refusal.in_window):
        # What repeats is not the number in flight: it was the rate, met while its calls were still out.
        return _rate_refused(replace(belief, in_flight=None), refusal)
    elif not known.doubts:
        # An answer was on its way while its place was taken already; if there really is less now, this repeats.
        limit = replace(known, step=0, doubts=1)
    else:
        limit = Limit(most, known.retry_after_ms, refusal.now_ms, interval_ms=interval_ms)
    limit = replace(limit, look_ms=refusal.now_ms + limit.interval_ms)
    return replace(belief, in_flight=limit, rate=_not_looking(belief.rate, refusal.now_ms))


def _margin_ms(window_ms: int) -> int:
    return max(LEAST_MARGIN_MS, min(MOST_MARGIN_MS, round(window_ms * MARGIN_SHARE)))


def _confirmed(known: Limit, most: int, now_ms: int) -> Limit:
    """Refused at the known number or above: it holds. A look that found nothing makes the next one come later."""
    longer = min(LONGEST_INTERVAL_MS, round(known.interval_ms * LONGER)) if known.step == 1 else known.interval_ms
    since_ms = known.since_ms if most == known.most else now_ms
    return replace(known, most=most, sure=known.sure + 1, step=0, doubts=0, interval_ms=longer, since_ms=since_ms)


def _not_looking(limit: Limit | None, now_ms: int) -> Limit | None:
    """A look that another refusal has broken off: later again."""
    return limit and replace(limit, step=0, look_ms=max(limit.look_ms, now_ms + limit.interval_ms // 4))


def _repeats(one: int, other: int) -> bool:
    return abs(one - other) <= max(1, REPEATS * max(one, other))


def _obeyed_only(belief: Belief, refusal: Refused) -> Belief:
    """A wait that is neither limit: a quota, a busy server. A guess made from the same words, once, is given up."""
    retry_after_ms = refusal.retry_after_ms
    alike = [
        limit for limit in (belief.rate, belief.in_flight) if limit and _same(limit.retry_after_ms, retry_after_ms)
    ]
    if any(limit.sure > 1 for limit in alike) or any(_same(each, retry_after_ms) for each in belief.others):
        # Somebody else uses the account, too.
        return belief
    belief = replace(
        belief,
        rate=None if belief.rate in alike else belief.rate,
        in_flight=None if belief.in_flight in alike else belief.in_flight,
    )
    if refusal.in_window <= 1 and refusal.flying <= 1:
        # The only call of its time: somebody else has used the account up, which says nothing about these words.
        return belief
    return replace(belief, others=(*belief.others, retry_after_ms)[-MOST_OTHERS:], others_ms=refusal.now_ms)


def _first_interval_ms(belief: Belief, reason: str, retry_after_ms: int) -> int:
    if reason == "rate":
        return retry_after_ms * FIRST_RATE_LOOK_WINDOWS
    return (retry_after_ms + belief.call_ms) * FIRST_FLIGHT_LOOK_WAITS
