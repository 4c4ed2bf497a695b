"""Numbers of the overview from the activity of all accounts: rates, answers and errors, tokens, and cost. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from mira_producer.cost.prices import Prices, money
from mira_producer.text import plural
from mira_queue.ledger.activity import MINUTE_MS, Activity, Kind

DAY_MS = 24 * 60 * MINUTE_MS


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute of the chart, with heights of a chart that is 100 high."""

    minute_ms: int
    answered: int
    failed: int
    answered_height: float
    failed_height: float


@dataclass(frozen=True, slots=True)
class ActivityNumbers:
    """Activity of all accounts. `codes` are errors of the last hour, the most frequent first.

    Rates are per minute, over the last minute. `cost` is empty without prices, and `cost_note` says what it includes.
    Days begin at midnight UTC.
    """

    jobs_per_minute: int
    lines_per_minute: int
    answered: int
    failed: int
    cancelled: int
    codes: Sequence[tuple[str, int]]
    bars: Sequence[Bar]
    top: int
    prompt_tokens: int
    completion_tokens: int
    uncounted: int
    cost: str
    cost_note: str


def numbers_of(activities: Sequence[Activity], now_ms: int, prices: Prices | None) -> ActivityNumbers:
    """Return the numbers of these accounts together. `prices` is None if the price table cannot be read."""
    codes: Counter[str] = Counter()
    for activity in activities:
        codes += activity.by_code()
    answered, cancelled = codes.pop("", 0), codes.pop("cancelled", 0)
    minutes = _minutes(activities)
    top = max((good + bad for _, good, bad in minutes), default=0)
    scale = 100 / max(1, top)
    prompt, completion, uncounted, unpriced = 0, 0, 0, 0
    cost = Decimal(0)
    for activity in activities:
        for model, tokens in activity.tokens_since(now_ms // DAY_MS * DAY_MS).items():
            prompt, completion = prompt + tokens.prompt, completion + tokens.completion
            uncounted += tokens.uncounted
            of_model = prices.cost(model, tokens.prompt, tokens.completion) if prices else None
            cost += of_model or 0
            unpriced += tokens.prompt + tokens.completion if of_model is None else 0
    return ActivityNumbers(
        jobs_per_minute=_last_minute(activities, "job", now_ms),
        lines_per_minute=_last_minute(activities, "line", now_ms),
        answered=answered,
        failed=codes.total(),
        cancelled=cancelled,
        codes=codes.most_common(),
        bars=[Bar(at_ms, good, bad, good * scale, bad * scale) for at_ms, good, bad in minutes],
        top=top,
        prompt_tokens=prompt,
        completion_tokens=completion,
        uncounted=uncounted,
        cost=money(cost, prices.currency) if prices else "",
        cost_note=_cost_note(prices, unpriced),
    )


def _cost_note(prices: Prices | None, unpriced: int) -> str:
    if prices is None:
        return "the price table cannot be read"
    if not prices:
        return "there is no price table"
    return f"{plural(unpriced, 'token')} without a price" if unpriced else "by the price table"


def _minutes(activities: Sequence[Activity], kind: Kind | None = None) -> list[tuple[int, int, int]]:
    """Return (start, succeeded, failed) of each minute of the last hour, of all accounts together."""
    good: Counter[int] = Counter()
    bad: Counter[int] = Counter()
    for activity in activities:
        for at_ms, succeeded, failed in activity.per_minute(kind):
            good[at_ms] += succeeded
            bad[at_ms] += failed
    return [(at_ms, good[at_ms], bad[at_ms]) for at_ms in sorted(good)]


def _last_minute(activities: Sequence[Activity], kind: Kind, now_ms: int) -> int:
    """Return how many ended in the last minute: the counts of this minute, and the missing part of the one before."""
    minutes = _minutes(activities, kind)[-2:]
    if len(minutes) < 2:
        return 0
    passed = now_ms % MINUTE_MS / MINUTE_MS
    before, current = (good + bad for _, good, bad in minutes)
    return round(before * (1 - passed) + current)
