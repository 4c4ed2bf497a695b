"""What calls teach about an account's limits: every rule of the policy, and what no sequence of calls can do to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from mira_worker.pacing.growth import expected, grown, informed, is_worth_probing, settled_in_ms, with_margin
from mira_worker.pacing.policy import after_rate_limit

from mira_queue.contract.pace import ConfiguredLimits, Estimate, Limit, PaceState, RateLimitHit, Reason

NOW_MS = 1_000_000_000
WINDOW_MS = 60_000
# What a 429 for too many calls in flight says.
BRIEF_MS = 5_000
DAY_MS = 86_400_000

NOTHING = Estimate()
RATE = Limit(60, WINDOW_MS, NOW_MS - 1, confirmations=2, probe_at_ms=NOW_MS + 480_000, interval_ms=480_000)
IN_FLIGHT = Limit(3, BRIEF_MS, NOW_MS - 1, confirmations=2, probe_at_ms=NOW_MS + 100_000, interval_ms=100_000)


def hit(retry_after_ms: int = WINDOW_MS, **changes: int) -> RateLimitHit:
    """The 61st call of a window is refused, while two calls are in flight, and as many were accepted before."""
    usual = RateLimitHit(NOW_MS, NOW_MS - 5, retry_after_ms, in_window=61, in_flight=2, peak_in_flight=2)
    return replace(usual, **changes)


def crowd(retry_after_ms: int = BRIEF_MS, **changes: int) -> RateLimitHit:
    """The fourth call in flight is refused; so many never were accepted."""
    return replace(hit(retry_after_ms, in_window=4, in_flight=4, peak_in_flight=2), **changes)


def denied(reason: Reason, **changes: Any) -> PaceState:
    """Held back just now, and nothing is proven."""
    usual = PaceState(
        NOW_MS, reason, 100, at_ceiling=0, peak_in_flight=0, peak_sent=0, quiet_ms=0, rate_bound_ms=NOW_MS
    )
    return replace(usual, **changes)


def rate_of(estimate: Estimate | None) -> Limit:
    assert estimate is not None
    assert estimate.rate is not None
    return estimate.rate


def in_flight_of(estimate: Estimate | None) -> Limit:
    assert estimate is not None
    assert estimate.in_flight is not None
    return estimate.in_flight


# --- a first 429 ---


@pytest.mark.parametrize(
    ("met", "rate", "in_flight"),
    [
        pytest.param(hit(), 60, None, id="many in the window, few in flight: the rate"),
        pytest.param(crowd(), None, 3, id="more in flight than were ever accepted: in flight"),
        pytest.param(crowd(peak_in_flight=4), None, None, id="as many in flight were accepted before: not sure yet"),
        pytest.param(crowd(in_window=12), 11, None, id="three times as many in the window as in flight: the rate"),
        pytest.param(crowd(in_window=11), None, 3, id="just fewer than that: in flight"),
        pytest.param(
            crowd(in_flight=2, in_window=2, peak_in_flight=0), None, 1, id="the second call of all: one at a time"
        ),
        pytest.param(hit(in_window=1, in_flight=1), None, None, id="alone: no limit of ours"),
        pytest.param(hit(120_001), None, None, id="longer than any window: a quota"),
        pytest.param(hit(120_000), 60, None, id="the longest window"),
    ],
)
def test_a_first_429_teaches_one_limit_or_none(met: RateLimitHit, rate: int | None, in_flight: int | None) -> None:
    learned = after_rate_limit(NOTHING, met)

    assert (learned.rate.max_calls if learned.rate else None) == rate
    assert (learned.in_flight.max_calls if learned.in_flight else None) == in_flight
    is_quota = met.retry_after_ms > 120_000
    assert learned.unrelated == ((met.retry_after_ms,) if is_quota else ())
    assert (learned.event_ms, learned.event_rate_limited) == (NOW_MS, 1)


def test_the_window_is_what_the_429_says_and_gets_a_margin_of_a_hundredth() -> None:
    learned = after_rate_limit(NOTHING, hit(6_000))

    assert rate_of(learned) == Limit(60, 6_000, NOW_MS, probe_at_ms=NOW_MS + 42_000, interval_ms=42_000, seen_with=2)
    assert learned.margin_ms == 60


@pytest.mark.parametrize(("window_ms", "margin_ms"), [(500, 30), (6_000, 60), (60_000, 250), (120_000, 250)])
def test_the_margin_grows_with_the_window_between_its_least_and_its_most(window_ms: int, margin_ms: int) -> None:
    assert after_rate_limit(NOTHING, hit(window_ms)).margin_ms == margin_ms
    configured = with_margin(ConfiguredLimits(rate=60, window_ms=window_ms, tokens=9, tokens_window_ms=window_ms))
    assert configured == ConfiguredLimits(60, window_ms + margin_ms, 0, 9, window_ms + margin_ms)


def test_what_was_not_configured_gets_no_margin() -> None:
    assert with_margin(ConfiguredLimits(in_flight=3)) == ConfiguredLimits(in_flight=3)


def test_a_wait_that_is_neither_limit_is_remembered_once_and_the_last_eight_are() -> None:
    estimate = NOTHING
    for minutes in (3, 6, 12, 24, 24, 48, 96, 192, 384, 768):
        at_ms = estimate.event_ms
        estimate = after_rate_limit(estimate, hit(minutes * 60_000, sent_ms=at_ms + 1, now_ms=at_ms + 2))

    assert estimate.unrelated == tuple(minutes * 60_000 for minutes in (6, 12, 24, 48, 96, 192, 384, 768))
    assert (estimate.rate, estimate.in_flight) == (None, None)


def test_words_that_were_neither_limit_once_teach_nothing_for_ten_minutes() -> None:
    estimate = replace(NOTHING, unrelated=(10_000,), unrelated_ms=NOW_MS)

    later = after_rate_limit(estimate, hit(9_000, now_ms=NOW_MS + 599_999))
    long_after = after_rate_limit(estimate, hit(9_000, now_ms=NOW_MS + 600_000))

    assert (later.rate, later.unrelated) == (None, (10_000,))
    assert (rate_of(long_after).max_calls, long_after.unrelated) == (60, ())


# --- one event ---


def test_a_burst_is_one_event_and_each_of_its_429s_lowers_the_number_by_one() -> None:
    first = after_rate_limit(NOTHING, hit(in_window=64))
    assert rate_of(first).max_calls == 63

    second = after_rate_limit(first, hit(in_window=64, now_ms=NOW_MS + 3))
    third = after_rate_limit(second, hit(in_window=64, now_ms=NOW_MS + 4, sent_ms=NOW_MS))

    assert (rate_of(second).max_calls, rate_of(third).max_calls) == (62, 61)
    assert (rate_of(third).confirmations, third.event_ms, third.event_rate_limited) == (1, NOW_MS, 3)
    assert rate_of(third).probe_at_ms == rate_of(first).probe_at_ms


def test_a_burst_lowers_the_number_in_flight_too() -> None:
    first = after_rate_limit(NOTHING, crowd(in_flight=6, in_window=6))
    second = after_rate_limit(first, crowd(in_flight=5, in_window=6, now_ms=NOW_MS + 1))

    assert (in_flight_of(first).max_calls, in_flight_of(second).max_calls) == (5, 4)


def test_a_burst_takes_no_number_below_one_and_none_that_was_known_before() -> None:
    estimate = after_rate_limit(NOTHING, hit(in_window=3, in_flight=1))
    for _ in range(9):
        estimate = after_rate_limit(estimate, hit(in_window=3, in_flight=1))
    assert rate_of(estimate).max_calls == 1

    known = after_rate_limit(replace(NOTHING, rate=RATE, max_accepted=9), hit(in_window=61))
    assert rate_of(after_rate_limit(known, hit(in_window=61))).max_calls == 60


def test_a_call_that_left_after_the_event_is_another_one() -> None:
    first = after_rate_limit(NOTHING, hit())

    second = after_rate_limit(first, hit(sent_ms=NOW_MS + 1, now_ms=NOW_MS + 9))

    assert (second.event_ms, second.event_rate_limited) == (NOW_MS + 9, 1)
    assert rate_of(second).confirmations == 2


def test_a_429_of_the_other_kind_in_the_same_burst_lowers_nothing() -> None:
    first = after_rate_limit(replace(NOTHING, in_flight=IN_FLIGHT, max_accepted=3), hit(in_window=64))

    second = after_rate_limit(first, hit(BRIEF_MS, in_window=64))

    assert (rate_of(second).max_calls, in_flight_of(second).max_calls) == (63, 3)


# --- a limit that is known ---


@pytest.mark.parametrize("retry_after_ms", [48_000, 60_000, 75_000])
def test_a_429_at_the_known_number_confirms_it_in_words_that_are_near_enough(retry_after_ms: int) -> None:
    learned = after_rate_limit(replace(NOTHING, rate=RATE, max_accepted=2), hit(retry_after_ms))

    assert learned.rate == replace(RATE, confirmations=3, probe_at_ms=NOW_MS + 480_000)


def test_a_failed_look_confirms_the_limit_and_the_next_one_comes_after_twice_the_time() -> None:
    looking = replace(RATE, step=1)

    learned = after_rate_limit(replace(NOTHING, rate=looking, max_accepted=2), hit(in_window=61))

    assert rate_of(learned) == replace(RATE, confirmations=3, interval_ms=960_000, probe_at_ms=NOW_MS + 960_000)


def test_a_later_step_that_fails_keeps_what_was_found_and_the_interval() -> None:
    looking = replace(RATE, max_calls=70, step=8, confirmations=0)

    learned = after_rate_limit(replace(NOTHING, rate=looking, max_accepted=2), hit(in_window=76))

    assert (rate_of(learned).max_calls, rate_of(learned).step, rate_of(learned).since_ms) == (75, 0, NOW_MS)
    assert rate_of(learned).interval_ms == RATE.interval_ms


def test_intervals_end_at_an_hour() -> None:
    estimate = replace(NOTHING, rate=RATE, max_accepted=2)
    for index in range(1, 9):
        estimate = replace(estimate, rate=replace(rate_of(estimate), step=1))
        estimate = after_rate_limit(estimate, hit(now_ms=NOW_MS + index * 10, sent_ms=NOW_MS + index * 10 - 5))

    assert rate_of(estimate).interval_ms == 3_600_000


def test_a_429_a_little_below_the_known_number_must_repeat_to_be_believed() -> None:
    estimate = replace(NOTHING, rate=RATE, max_accepted=2, margin_ms=250)

    once = after_rate_limit(estimate, hit(in_window=58))
    assert (rate_of(once).max_calls, rate_of(once).contradictions, once.margin_ms) == (60, 1, 375)

    twice = after_rate_limit(once, hit(in_window=58, now_ms=NOW_MS + 9, sent_ms=NOW_MS + 1))
    assert (rate_of(twice).max_calls, rate_of(twice).contradictions, rate_of(twice).confirmations) == (57, 0, 1)


def test_the_margin_grows_to_three_hundredths_of_the_window_at_most() -> None:
    estimate = replace(NOTHING, rate=RATE, max_accepted=2, margin_ms=1_500)

    assert after_rate_limit(estimate, hit(in_window=58)).margin_ms == 1_800


def test_a_doubt_is_gone_when_the_known_number_is_met_again() -> None:
    estimate = replace(NOTHING, rate=replace(RATE, contradictions=1), max_accepted=2)

    assert (
        rate_of(after_rate_limit(estimate, hit())).contradictions,
        rate_of(after_rate_limit(estimate, hit())).max_calls,
    ) == (0, 60)


def test_a_429_far_below_the_known_number_is_believed_at_once() -> None:
    learned = after_rate_limit(replace(NOTHING, rate=RATE, max_accepted=2), hit(in_window=31))

    assert rate_of(learned) == Limit(30, WINDOW_MS, NOW_MS, probe_at_ms=NOW_MS + 420_000, interval_ms=420_000)


def test_fewer_in_flight_must_repeat_to_be_believed() -> None:
    estimate = replace(NOTHING, in_flight=IN_FLIGHT, max_accepted=3)

    once = after_rate_limit(estimate, crowd(in_flight=2))
    assert (in_flight_of(once).max_calls, in_flight_of(once).contradictions) == (3, 1)

    twice = after_rate_limit(once, crowd(in_flight=2, now_ms=NOW_MS + 9, sent_ms=NOW_MS + 1))
    assert (in_flight_of(twice).max_calls, in_flight_of(twice).confirmations) == (1, 1)


def test_a_guess_that_was_met_once_gives_way_to_another_of_its_kind() -> None:
    estimate = replace(NOTHING, rate=replace(RATE, confirmations=1), max_accepted=2)

    assert rate_of(after_rate_limit(estimate, hit(10_000, in_window=31))).retry_after_ms == 10_000


def test_a_limit_that_repeated_is_not_given_up_for_other_words() -> None:
    estimate = replace(NOTHING, rate=RATE, max_accepted=2)

    learned = after_rate_limit(estimate, hit(10_000, in_window=31))

    assert (learned.rate, learned.unrelated) == (RATE, (10_000,))


def test_a_guess_that_does_not_repeat_is_given_up() -> None:
    estimate = replace(NOTHING, rate=replace(RATE, confirmations=1), max_accepted=2)

    learned = after_rate_limit(estimate, hit(in_window=1, in_flight=1))

    # Alone it says nothing about these words: somebody else may have used the account up.
    assert (learned.rate, learned.unrelated) == (None, ())


def test_a_guess_in_flight_whose_calls_in_the_window_repeat_was_the_rate() -> None:
    first = after_rate_limit(NOTHING, hit(WINDOW_MS, in_window=31, in_flight=12))
    assert (in_flight_of(first).max_calls, in_flight_of(first).seen_with) == (11, 31)

    second = after_rate_limit(
        first, hit(WINDOW_MS, in_window=31, in_flight=9, now_ms=NOW_MS + 90_000, sent_ms=NOW_MS + 89_000)
    )

    assert (rate_of(second).max_calls, second.in_flight) == (30, None)


def test_a_guess_in_flight_by_which_a_call_that_is_alone_is_rate_limited_was_the_rate() -> None:
    first = after_rate_limit(NOTHING, crowd(in_flight=2, in_window=3, peak_in_flight=0))
    second = after_rate_limit(first, crowd(in_flight=1, in_window=3, now_ms=NOW_MS + 9, sent_ms=NOW_MS + 1))

    assert (in_flight_of(first).max_calls, second.in_flight) == (1, None)
    assert (rate_of(second).max_calls, rate_of(second).retry_after_ms) == (2, BRIEF_MS)


def test_a_guess_of_a_rate_whose_calls_in_flight_repeat_was_calls_in_flight() -> None:
    first = after_rate_limit(NOTHING, hit(500, in_window=140, in_flight=11))
    assert (rate_of(first).max_calls, rate_of(first).seen_with) == (139, 11)

    later = hit(500, in_window=90, in_flight=11, now_ms=NOW_MS + 900, sent_ms=NOW_MS + 800)
    second = after_rate_limit(first, later)
    assert (second.rate, in_flight_of(second).max_calls) == (None, 10)

    # Where so many in flight were accepted before, it is the rate that is lower.
    assert rate_of(after_rate_limit(first, replace(later, peak_in_flight=11))).max_calls == 89


def test_after_a_429_at_a_number_that_was_once_accepted_the_next_one_is_believed() -> None:
    first = after_rate_limit(NOTHING, crowd(peak_in_flight=9))
    second = after_rate_limit(first, crowd(now_ms=NOW_MS + 900, sent_ms=NOW_MS + 800))

    assert (first.in_flight, first.rate, first.max_accepted) == (None, None, 0)
    assert in_flight_of(second).max_calls == 3


def test_a_guess_in_flight_that_does_not_repeat_is_given_up() -> None:
    estimate = replace(NOTHING, in_flight=replace(IN_FLIGHT, confirmations=1), rate=RATE, max_accepted=2)

    learned = after_rate_limit(estimate, crowd(in_flight=1))

    assert (learned.in_flight, learned.rate, learned.unrelated) == (None, RATE, (BRIEF_MS,))


@pytest.mark.parametrize("met", [hit(in_window=1, in_flight=1), crowd(in_flight=1)])
def test_a_limit_that_repeated_outlives_a_429_that_somebody_else_has_caused(met: RateLimitHit) -> None:
    estimate = replace(NOTHING, rate=RATE, in_flight=IN_FLIGHT, max_accepted=2)

    learned = after_rate_limit(estimate, met)

    assert (learned.rate, learned.in_flight, learned.unrelated) == (RATE, IN_FLIGHT, ())


def test_a_429_breaks_off_the_look_for_more_of_the_other_kind() -> None:
    estimate = replace(NOTHING, rate=RATE, in_flight=replace(IN_FLIGHT, step=2, probe_at_ms=NOW_MS - 1), max_accepted=5)
    learned = after_rate_limit(estimate, hit())
    assert in_flight_of(learned) == replace(IN_FLIGHT, step=0, probe_at_ms=NOW_MS + 25_000)

    estimate = replace(NOTHING, rate=replace(RATE, step=4, probe_at_ms=NOW_MS - 1), in_flight=IN_FLIGHT, max_accepted=3)
    learned = after_rate_limit(estimate, crowd())
    assert rate_of(learned) == replace(RATE, step=0, probe_at_ms=NOW_MS + 120_000)


def test_what_was_taken_for_calls_in_flight_by_the_same_words_was_the_rate() -> None:
    same_words = replace(IN_FLIGHT, retry_after_ms=WINDOW_MS)

    learned = after_rate_limit(replace(NOTHING, rate=RATE, in_flight=same_words, max_accepted=2), hit())

    assert (learned.in_flight, rate_of(learned).max_calls) == (None, 60)


def test_most_calls_in_flight_that_were_ever_accepted_are_remembered() -> None:
    learned = after_rate_limit(replace(NOTHING, max_accepted=5), hit(peak_in_flight=9))

    assert learned.max_accepted == 9
    assert after_rate_limit(learned, hit(peak_in_flight=1, sent_ms=NOW_MS + 1)).max_accepted == 9


# --- more is let through ---


@pytest.mark.parametrize(("start", "more"), [(2, 4), (4, 8), (8, 10), (10, 12), (16, 20), (80, 100)])
def test_while_nothing_is_known_more_are_tried_doubled_first_then_by_a_quarter(start: int, more: int) -> None:
    estimate = replace(NOTHING, start=start)

    assert grown(estimate, denied("in_flight", at_ceiling=start // 2 - 1, quiet_ms=119)) is None
    max_accepted = grown(estimate, denied("in_flight", at_ceiling=start // 2, peak_in_flight=start))
    assert max_accepted == replace(estimate, start=more, max_accepted=start)
    assert grown(estimate, denied("in_flight", quiet_ms=120)) == replace(estimate, start=more)


def test_without_a_limit_on_the_rate_none_is_raised() -> None:
    assert grown(NOTHING, denied("rate", quiet_ms=DAY_MS, peak_sent=1_000)) is None


def test_a_configured_number_in_flight_is_where_the_estimate_starts_unless_more_is_known() -> None:
    assert informed(NOTHING, ConfiguredLimits(in_flight=50)).start == 50
    assert informed(replace(NOTHING, start=80), ConfiguredLimits(in_flight=50)).start == 80
    assert informed(NOTHING, ConfiguredLimits()) == NOTHING


def test_a_look_is_for_one_more_and_not_before_its_time() -> None:
    estimate = replace(NOTHING, in_flight=IN_FLIGHT)

    assert grown(estimate, denied("in_flight", now_ms=IN_FLIGHT.probe_at_ms - 1, quiet_ms=DAY_MS)) is None
    assert in_flight_of(grown(estimate, denied("in_flight", now_ms=IN_FLIGHT.probe_at_ms))) == replace(
        IN_FLIGHT, step=1
    )
    assert IN_FLIGHT.allowed + 1 == replace(IN_FLIGHT, step=1).allowed


def test_a_look_at_the_rate_waits_for_a_third_of_a_window_without_a_free_place_but_not_for_ever() -> None:
    estimate = replace(NOTHING, rate=RATE)

    assert grown(estimate, denied("rate", now_ms=RATE.probe_at_ms, wait_ms=19_799)) is None
    assert rate_of(grown(estimate, denied("rate", now_ms=RATE.probe_at_ms, wait_ms=19_800))).step == 1
    patience_ms = RATE.probe_at_ms + 2 * RATE.interval_ms
    assert grown(estimate, denied("rate", now_ms=patience_ms - 1, wait_ms=1)) is None
    assert rate_of(grown(estimate, denied("rate", now_ms=patience_ms, wait_ms=1))).step == 1


@pytest.mark.parametrize(
    ("proof", "is_enough"),
    [
        ({"peak_in_flight": 4}, True),
        ({"peak_in_flight": 3}, False),
        ({"at_ceiling": 20}, True),
        ({"at_ceiling": 19}, False),
        ({"quiet_ms": 250}, True),
        ({"quiet_ms": 249}, False),
    ],
)
def test_more_in_flight_is_believed_once_it_was_seen_or_often_enough_let_in(
    proof: dict[str, int], is_enough: bool
) -> None:
    estimate = replace(NOTHING, in_flight=replace(IN_FLIGHT, step=1))

    found = grown(estimate, denied("in_flight", **proof))

    assert (found is not None) is is_enough
    if found is not None:
        limit = replace(IN_FLIGHT, max_calls=4, step=1, confirmations=0, since_ms=NOW_MS, interval_ms=BRIEF_MS * 15)
        assert found == replace(estimate, in_flight=limit)


@pytest.mark.parametrize(("peak_sent", "is_enough"), [(60, True), (59, False)])
def test_a_higher_rate_is_believed_once_the_call_that_took_the_last_place_was_let_in(
    peak_sent: int, is_enough: bool
) -> None:
    estimate = replace(NOTHING, rate=replace(RATE, step=1))

    found = grown(estimate, denied("rate", peak_sent=peak_sent))

    assert (found is not None) is is_enough


def test_each_look_at_the_rate_that_succeeds_doubles_the_next_step() -> None:
    estimate: Estimate | None = replace(NOTHING, rate=replace(RATE, step=1))
    seen = []
    for _ in range(5):
        assert estimate is not None
        estimate = grown(estimate, denied("rate", peak_sent=rate_of(estimate).allowed - 1))
        seen.append((rate_of(estimate).max_calls, rate_of(estimate).allowed))

    assert seen == [(61, 63), (63, 67), (67, 75), (75, 91), (91, 123)]


def test_more_in_flight_is_looked_for_by_an_eighth() -> None:
    estimate: Estimate | None = replace(NOTHING, in_flight=replace(IN_FLIGHT, max_calls=14, step=1))
    seen = []
    for _ in range(4):
        assert estimate is not None
        estimate = grown(estimate, denied("in_flight", quiet_ms=250))
        seen.append((in_flight_of(estimate).max_calls, in_flight_of(estimate).allowed))

    assert seen == [(15, 16), (16, 18), (18, 20), (20, 22)]


def test_the_longer_calls_take_the_later_more_in_flight_is_looked_for() -> None:
    """A look that fails costs a wait, and then a probe that goes alone."""
    short, long = (in_flight_of(after_rate_limit(NOTHING, crowd(call_ms=call_ms))) for call_ms in (200, 20_000))

    assert (short.interval_ms, long.interval_ms) == (15 * 5_200, 15 * 25_000)
    estimate = replace(NOTHING, in_flight=replace(IN_FLIGHT, step=1), call_ms=20_000)
    assert in_flight_of(grown(estimate, denied("in_flight", quiet_ms=250))).interval_ms == 15 * 25_000


def test_a_look_that_succeeds_makes_the_next_looks_frequent_again() -> None:
    estimate = replace(NOTHING, rate=replace(RATE, step=1, interval_ms=3_600_000))

    assert rate_of(grown(estimate, denied("rate", peak_sent=60))).interval_ms == 7 * WINDOW_MS


@pytest.mark.parametrize(("rate_bound_ms", "looks"), [(2 * WINDOW_MS, False), (2 * WINDOW_MS + 1, True)])
def test_while_the_rate_is_what_holds_the_account_more_in_flight_are_not_looked_for(
    rate_bound_ms: int, looks: bool
) -> None:
    estimate = replace(NOTHING, rate=replace(RATE, since_ms=0), in_flight=IN_FLIGHT)

    found = grown(estimate, denied("in_flight", now_ms=IN_FLIGHT.probe_at_ms, rate_bound_ms=rate_bound_ms))

    assert (found is not None) is looks


def test_a_rate_that_was_just_found_holds_the_account_though_no_call_has_waited_for_it_yet() -> None:
    estimate = replace(NOTHING, rate=RATE, in_flight=IN_FLIGHT)

    assert grown(estimate, denied("in_flight", now_ms=IN_FLIGHT.probe_at_ms, rate_bound_ms=DAY_MS)) is None


# --- what is expected, and what is left ---


def test_expected_limits_are_an_estimate_that_no_429_has_confirmed() -> None:
    found = expected(ConfiguredLimits(expected_rate=60, expected_window_ms=WINDOW_MS, expected_in_flight=3), NOW_MS)

    assert (rate_of(found).max_calls, rate_of(found).window_ms, rate_of(found).confirmations) == (60, WINDOW_MS, 0)
    assert rate_of(found).probe_at_ms == NOW_MS + 7 * WINDOW_MS
    assert (in_flight_of(found).max_calls, in_flight_of(found).confirmations) == (3, 0)
    assert expected(ConfiguredLimits(in_flight=9), NOW_MS) is None


def test_a_429_replaces_an_expected_limit_that_does_not_fit_and_confirms_one_that_does() -> None:
    first = expected(ConfiguredLimits(expected_rate=60, expected_window_ms=WINDOW_MS), NOW_MS - DAY_MS)
    assert first is not None

    assert rate_of(after_rate_limit(first, hit(in_window=61))).confirmations == 1
    other = rate_of(after_rate_limit(first, hit(10_000, in_window=31)))
    assert (other.max_calls, other.window_ms) == (30, 10_000)


@pytest.mark.parametrize(("open_jobs", "is_worth"), [(419, False), (420, True)])
def test_a_probe_for_a_higher_rate_needs_seven_windows_of_jobs(open_jobs: int, is_worth: bool) -> None:
    assert is_worth_probing(RATE, "rate", 0, open_jobs) is is_worth


def test_from_a_thousand_open_jobs_on_more_may_follow() -> None:
    assert is_worth_probing(replace(RATE, max_calls=10**6), "rate", 0, 1_000)
    assert is_worth_probing(IN_FLIGHT, "in_flight", 1, 1_000)


def test_while_no_concurrency_limit_is_known_a_process_asks_again_when_the_last_call_has_settled() -> None:
    assert settled_in_ms(NOTHING, denied("in_flight", quiet_ms=50)) == 70
    assert settled_in_ms(NOTHING, denied("rate", quiet_ms=50)) == 100
    assert settled_in_ms(replace(NOTHING, in_flight=IN_FLIGHT), denied("in_flight", quiet_ms=50)) == 100


# --- a Retry-After that is not the window ---


def test_a_computed_wait_is_of_a_rate_and_the_next_event_measures_its_window() -> None:
    first = after_rate_limit(NOTHING, hit(5_017, in_window=61, in_flight=9, accepted=60))
    assert (rate_of(first).max_calls, rate_of(first).window_ms) == (60, 5_017)

    later_ms = NOW_MS + 10_000
    second = after_rate_limit(first, hit(983, now_ms=later_ms, sent_ms=later_ms - 5, in_window=2, accepted=121))

    # Sixty-one calls, the last of which was not known to be rate-limited, from one reset to the next.
    assert (rate_of(second).max_calls, rate_of(second).window_ms) == (61, 5_966)


def test_each_429_of_the_event_that_measured_a_window_means_one_call_fewer() -> None:
    first = after_rate_limit(NOTHING, hit(5_017, in_window=61, accepted=60))
    later = hit(983, now_ms=NOW_MS + 10_000, sent_ms=NOW_MS + 9_000, in_window=2, accepted=121)
    second = after_rate_limit(first, later)

    third = after_rate_limit(second, replace(later, accepted=120))

    assert (rate_of(third).max_calls, third.reset_accepted) == (60, 120)


def test_a_rounded_wait_that_is_shorter_than_the_window_is_not_taken_for_another_limit() -> None:
    first = after_rate_limit(NOTHING, hit(5_000, accepted=60, peak_in_flight=8))
    later_ms = NOW_MS + 9_800
    second = after_rate_limit(
        first, hit(1_000, now_ms=later_ms, sent_ms=later_ms - 5, in_window=3, in_flight=2, accepted=120)
    )

    assert (rate_of(second).max_calls, rate_of(second).window_ms, second.in_flight) == (60, 5_000, None)


@pytest.mark.parametrize(
    ("elapsed_ms", "learned"),
    [
        pytest.param(883, (60, 5_900), id="the calls of a start are one window, which ends with the wait"),
        pytest.param(5_017, (60, 10_034), id="as long as the wait"),
        pytest.param(5_018, (8, 5_017), id="longer: the calls in the wait count"),
    ],
)
def test_all_calls_of_a_new_account_are_in_the_window_of_its_first_429(
    elapsed_ms: int, learned: tuple[int, int]
) -> None:
    first = hit(5_017, in_window=9, in_flight=9, accepted=60, first_ms=NOW_MS - elapsed_ms)

    rate = rate_of(after_rate_limit(NOTHING, first))

    assert (rate.max_calls, rate.window_ms) == learned


@pytest.mark.parametrize("call_ms", [100, 20])
def test_a_period_of_one_probe_is_measured_although_the_first_guess_of_the_window_is_much_shorter(call_ms: int) -> None:
    guess = Limit(1, 12, NOW_MS - 200, measured_ms=12)
    estimate = replace(NOTHING, rate=guess, reset_ms=NOW_MS - 190, max_accepted=9)

    rate = rate_of(after_rate_limit(estimate, hit(19, accepted=2, call_ms=call_ms)))

    # With calls that short, the account was idle in between.
    assert (rate.max_calls, rate.window_ms) == ((2, 209) if call_ms == 100 else (1, 12))


def test_a_single_call_that_is_a_little_early_does_not_replace_a_measured_window() -> None:
    known = Limit(60, 6_000, NOW_MS - 9_000, base_calls=60, measured_ms=6_000)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 140, reset_accepted=60, margin_ms=60, max_accepted=9)

    first = after_rate_limit(estimate, hit(81, accepted=62))
    again_ms = NOW_MS + 200
    second = after_rate_limit(first, hit(81, now_ms=again_ms, sent_ms=again_ms - 5, accepted=64))

    assert rate_of(first) == replace(known, contradictions=1)
    assert (first.margin_ms, first.reset_accepted) == (90, 60)
    # The limit is lower: all calls since the last end of a window count.
    assert (rate_of(second).max_calls, rate_of(second).window_ms) == (4, 421)


@pytest.mark.parametrize(("accepted", "learned"), [(175, (59, 6_036)), (100, (100, 17_901))])
def test_several_whole_windows_of_a_first_guess_are_measured_as_such(accepted: int, learned: tuple[int, int]) -> None:
    guess = Limit(60, 5_573, NOW_MS - 18_000, measured_ms=5_573)
    estimate = replace(NOTHING, rate=guess, reset_ms=NOW_MS - 17_618, max_accepted=9)

    rate = rate_of(after_rate_limit(estimate, hit(283, accepted=accepted, call_ms=6_000)))

    assert (rate.max_calls, rate.window_ms) == learned


def test_a_full_window_is_not_taken_for_a_longer_one_because_a_call_was_early_once() -> None:
    known = Limit(60, 6_000, NOW_MS - 12_300)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 6_270, max_accepted=9, margin_ms=60)
    full = hit(6_000, in_window=60, accepted=60)

    first = after_rate_limit(estimate, full)
    later_ms = NOW_MS + 12_270
    second = after_rate_limit(first, replace(full, now_ms=later_ms, sent_ms=later_ms - 5, accepted=120))

    assert (rate_of(first).window_ms, rate_of(first).contradictions, first.margin_ms) == (6_000, 1, 90)
    assert (rate_of(second).max_calls, rate_of(second).window_ms) == (60, 12_000)


def test_a_bucket_that_is_smaller_than_the_calls_sent_together_keeps_its_rate() -> None:
    known = Limit(20, 80, NOW_MS - 1, base_calls=20, measured_ms=2_000)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 1_900, max_accepted=9)

    smaller = rate_of(after_rate_limit(estimate, hit(51, in_known_window=11, accepted=15)))
    lower = rate_of(after_rate_limit(estimate, hit(51, in_known_window=11, accepted=19)))
    window = rate_of(after_rate_limit(estimate, hit(1_051, in_known_window=11, accepted=15)))

    assert (smaller.max_calls, smaller.window_ms) == (10, 1_000)
    assert (lower.max_calls, lower.window_ms) == (19, 1_951)
    # The next call is admitted much later than in a bucket of that rate.
    assert (window.max_calls, window.window_ms) == (15, 2_951)


def test_a_call_that_is_rejected_alone_after_a_full_window_shows_that_the_window_is_longer() -> None:
    known = Limit(60, 4_000, NOW_MS - 6_060)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 4_060, reset_accepted=60, max_accepted=9)
    alone = hit(2_000, in_window=1, in_flight=1, in_known_window=60, accepted=120)

    learned = rate_of(after_rate_limit(estimate, alone))
    idle = after_rate_limit(estimate, replace(alone, accepted=90))

    assert (learned.max_calls, learned.window_ms) == (60, 6_000)
    # With fewer calls, another program has used the account.
    assert idle.rate == known


def test_a_window_that_states_a_second_before_its_end_is_not_a_bucket() -> None:
    known = Limit(60, 2_000, NOW_MS - 5_070, base_calls=60, measured_ms=5_000)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 5_070, reset_accepted=60, max_accepted=9)

    learned = after_rate_limit(estimate, hit(1_000, in_window=1, in_flight=1, in_known_window=60, accepted=120))

    assert (rate_of(learned).max_calls, rate_of(learned).window_ms) == (60, 6_070)
    assert learned.margin_ms == 61


def test_a_failed_probe_for_more_does_not_lower_the_rate_that_was_measured_before() -> None:
    known = Limit(12, 1_000, NOW_MS - 30_000, base_calls=12, measured_ms=1_200, step=1)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 29_000, reset_accepted=12, max_accepted=9)

    # From one event to the next, the bucket was not used up all the time: 290 calls in 30 s.
    failed = after_rate_limit(estimate, hit(1_000, in_known_window=13, accepted=302))
    lower = after_rate_limit(estimate, hit(1_000, in_known_window=13, accepted=262))

    assert rate_of(failed).max_calls / rate_of(failed).window_ms == pytest.approx(12 / 1_200, rel=0.01)
    assert rate_of(lower).max_calls / rate_of(lower).window_ms == pytest.approx(250 / 30_000, rel=0.05)
    # A bucket forgives a call that is a little early.
    assert failed.margin_ms == 0


def test_calls_that_a_window_has_rejected_do_not_count_in_it_and_those_of_a_bucket_do() -> None:
    known = Limit(60, 5_017, NOW_MS - 1, measured_ms=5_017)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS - 4_017, max_accepted=9)
    later = hit(1_983, accepted=60, in_known_window=2)

    first = after_rate_limit(estimate, later)
    second = after_rate_limit(first, replace(later, accepted=59))
    of_bucket = replace(estimate, rate=replace(known, retry_after_ms=183))
    bucket = after_rate_limit(of_bucket, replace(later, retry_after_ms=183))

    assert (first.uncounted, first.uncounted_until_ms) == (1, NOW_MS + 6_000)
    assert second.uncounted == 2
    # Shortly before its end, a window states a short wait, too.
    assert after_rate_limit(estimate, replace(later, retry_after_ms=183)).uncounted == 1
    assert bucket.uncounted == 0


@given(st.integers(2, 500), st.integers(1, 3), st.integers(1_001, 60_000))
def test_what_a_used_up_limiter_admitted_between_two_429s_is_its_rate(calls: int, windows: int, window_ms: int) -> None:
    assume(window_ms % 100)
    known = Limit(calls * 2, window_ms, NOW_MS - 1, measured_ms=window_ms)
    estimate = replace(NOTHING, rate=known, reset_ms=NOW_MS + window_ms - windows * window_ms, max_accepted=9)

    learned = rate_of(after_rate_limit(estimate, hit(window_ms, accepted=calls * windows)))

    assert learned.max_calls / learned.window_ms == pytest.approx(calls / window_ms, rel=0.01)


# --- a limit that lets nothing through, and one that was lowered ---


def blocked_for(estimate: Estimate, probes: int, retry_after_ms: int = BRIEF_MS) -> tuple[Estimate, list[int]]:
    """The waits of so many probes in a row that are rate-limited while nothing else is in flight."""
    waits = []
    for _ in range(probes):
        at_ms = estimate.event_ms + estimate.wait_ms
        estimate = after_rate_limit(
            estimate, hit(retry_after_ms, now_ms=at_ms, sent_ms=at_ms - 1, in_window=1, in_flight=1, accepted=50)
        )
        waits.append(estimate.wait_ms)
    return estimate, waits


def test_probes_of_slots_that_have_leaked_are_further_and_further_apart_and_learn_how_long_it_takes() -> None:
    known = replace(NOTHING, in_flight=IN_FLIGHT, max_accepted=3)
    first = after_rate_limit(known, crowd(accepted=50))

    blocked, waits = blocked_for(first, 8)

    assert waits == [10_000, 20_000, 40_000, 60_000, 60_000, 60_000, 60_000, 60_000]
    assert (blocked.rate, in_flight_of(blocked).max_calls) == (None, 3)
    again_ms = NOW_MS + DAY_MS
    again = after_rate_limit(blocked, crowd(now_ms=again_ms, sent_ms=again_ms - 5, accepted=900))
    again = replace(again, event_accepted=50)
    assert again.wait_ms == BRIEF_MS
    assert blocked_for(again, 1)[1] == [375_000 - BRIEF_MS]


def test_a_quota_and_a_rate_are_probed_after_what_they_ask_for() -> None:
    assert blocked_for(after_rate_limit(NOTHING, hit(3_600_000, accepted=50)), 4, 3_600_000)[1] == [3_600_000] * 4
    rate = replace(NOTHING, rate=RATE, max_accepted=2)
    first = after_rate_limit(rate, hit(accepted=50))
    assert blocked_for(first, 3, WINDOW_MS)[1] == [WINDOW_MS] * 3


def test_a_lowered_concurrency_limit_is_not_learned_as_a_rate_though_its_window_looks_the_same() -> None:
    known = replace(NOTHING, in_flight=replace(IN_FLIGHT, confirmations=1, seen_with=4), max_accepted=3)
    lowered = crowd(in_flight=3, in_window=4, peak_window=40)
    first = after_rate_limit(known, lowered)
    second = after_rate_limit(first, replace(lowered, now_ms=NOW_MS + 6_000, sent_ms=NOW_MS + 5_990))

    assert (second.rate, in_flight_of(second).max_calls) == (None, 2)


def test_ever_fewer_in_flight_while_the_window_is_full_was_the_rate() -> None:
    known = replace(NOTHING, in_flight=replace(IN_FLIGHT, confirmations=1, contradictions=1), max_accepted=9)

    learned = after_rate_limit(known, crowd(in_flight=3, in_window=11))

    assert (learned.in_flight, rate_of(learned).max_calls) == (None, 10)


# --- whatever happens ---

times = st.integers(1, 10 * DAY_MS)
counts = st.integers(1, 2_000)
words = st.sampled_from([1, 500, 599, 600, BRIEF_MS, WINDOW_MS, 61_000, 120_000, 120_001, DAY_MS]) | st.integers(
    1, 2 * DAY_MS
)
# Few numbers that meet again, or beliefs would rarely be confirmed.
small = st.integers(1, 6) | counts
hits = st.builds(RateLimitHit, times, times, words, small, small, st.integers(0, 6) | counts)
denials = st.builds(
    PaceState, times, st.sampled_from(["in_flight", "rate"]), st.integers(0, DAY_MS), st.integers(0, 100),
    st.integers(0, 2_000), st.integers(0, 2_000), st.integers(0, DAY_MS), st.integers(0, DAY_MS),
)  # fmt: skip
events = st.lists(hits | denials, max_size=30)


def histories(happened: list[RateLimitHit | PaceState]) -> list[Estimate]:
    """What is believed after each of these."""
    estimate, seen = NOTHING, []
    for event in happened:
        estimate = (
            after_rate_limit(estimate, event) if isinstance(event, RateLimitHit) else grown(estimate, event) or estimate
        )
        seen.append(estimate)
    return seen


def limits_of(estimate: Estimate) -> list[Limit]:
    return [limit for limit in (estimate.rate, estimate.in_flight) if limit is not None]


@given(events)
def test_whatever_happens_a_belief_can_be_written_down_and_read_again(happened: list[RateLimitHit | PaceState]) -> None:
    for estimate in histories(happened):
        assert Estimate.from_json(estimate.to_json()) == estimate


def test_an_empty_text_is_an_empty_estimate() -> None:
    assert Estimate.from_json(b"") == NOTHING


@given(events)
def test_whatever_happens_the_numbers_stay_what_they_mean(happened: list[RateLimitHit | PaceState]) -> None:
    before = NOTHING
    for estimate in histories(happened):
        assert estimate.start >= before.start
        assert len(estimate.unrelated) <= 8
        assert all(
            limit.step >= 0 and limit.confirmations >= 0 and limit.contradictions in (0, 1)
            for limit in limits_of(estimate)
        )
        assert all(0 < limit.interval_ms <= 3_600_000 * 20 for limit in limits_of(estimate))
        assert estimate.margin_ms <= max(250, 0.03 * 120_000 * 1.2)
        assert estimate.rate is None or estimate.rate.retry_after_ms <= 120_000
        before = estimate


@given(st.lists(hits.filter(lambda one: one.in_window > 1) | denials, max_size=30))
def test_a_belief_never_lets_through_less_than_one_call(happened: list[RateLimitHit | PaceState]) -> None:
    for estimate in histories(happened):
        assert all(limit.max_calls >= 1 for limit in limits_of(estimate))


@given(events)
@example([RateLimitHit(NOW_MS, NOW_MS - 5, 500, in_window=1, in_flight=3, peak_in_flight=3)])
def test_a_belief_never_lets_through_less_than_one_call_even_when_long_calls_are_out(
    happened: list[RateLimitHit | PaceState],
) -> None:
    for estimate in histories(happened):
        assert all(limit.max_calls >= 1 for limit in limits_of(estimate))


@given(events, hits)
def test_a_429_never_raises_what_is_let_through(happened: list[RateLimitHit | PaceState], last: RateLimitHit) -> None:
    estimate = (histories(happened) or [NOTHING])[-1]

    learned = after_rate_limit(estimate, last)

    assert learned.start == estimate.start
    for before, after in ((estimate.rate, learned.rate), (estimate.in_flight, learned.in_flight)):
        if before and after and before.retry_after_ms == after.retry_after_ms:
            assert after.allowed <= before.allowed


@given(events, denials)
def test_what_is_raised_is_what_calls_were_denied_by_and_nothing_else(
    happened: list[RateLimitHit | PaceState], last: PaceState
) -> None:
    estimate = (histories(happened) or [NOTHING])[-1]

    found = grown(estimate, last)

    assume(found is not None)
    assert found is not None
    if last.reason == "rate":
        assert found.in_flight == estimate.in_flight
        assert rate_of(found).allowed > rate_of(estimate).allowed
    else:
        assert found.rate == estimate.rate
        assert (found.in_flight.allowed if found.in_flight else found.start) > (
            estimate.in_flight.allowed if estimate.in_flight else estimate.start
        )


@given(st.lists(hits, min_size=1, max_size=20))
def test_the_same_429s_are_never_two_events(burst: list[RateLimitHit]) -> None:
    """Of whatever left before the first of them was heard of."""
    first, *unrelated = burst
    estimate = after_rate_limit(NOTHING, first)
    for each in unrelated:
        estimate = after_rate_limit(estimate, replace(each, sent_ms=min(each.sent_ms, first.now_ms)))

    assume(first.sent_ms > 0)
    assert (estimate.event_ms, estimate.event_rate_limited) == (first.now_ms, len(burst))
    assert all(limit.confirmations == 1 for limit in limits_of(estimate))


@given(st.integers(0, 10**9), st.integers(0, DAY_MS))
def test_a_configured_window_is_kept_a_little_longer_and_never_shorter(rate: int, window_ms: int) -> None:
    configured = with_margin(ConfiguredLimits(rate=rate, window_ms=window_ms, tokens=rate, tokens_window_ms=window_ms))

    assert (configured.rate, configured.tokens) == (rate, rate)
    for kept_ms in (configured.window_ms, configured.tokens_window_ms):
        assert kept_ms == 0 if window_ms == 0 else window_ms + 30 <= kept_ms <= window_ms + 250
