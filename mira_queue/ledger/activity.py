"""Activity of accounts: how many jobs ended, and their tokens. `finish` and `cancel` count them (lib/activity.lua).

A line of a file counts when its job ends. Lines that share an answer count once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mira_queue.contract import names
from mira_queue.contract.call_times import NO_CALLS, Histogram, histograms_of
from mira_queue.ledger.script_runner import ScriptRunner, decode

Kind = Literal["job", "line"]

MINUTE_MS, HOUR_MS = 60_000, 3_600_000


@dataclass(frozen=True, slots=True)
class Ends:
    """Jobs that ended in one minute. `code` is empty for those that succeeded, or "cancelled", or that of an error."""

    minute_ms: int
    kind: str
    code: str
    count: int


@dataclass(slots=True)
class Tokens:
    """Tokens of one model. `uncounted` is the number of answers that report none."""

    prompt: int = 0
    completion: int = 0
    uncounted: int = 0


@dataclass(frozen=True, slots=True)
class Activity:
    """Activity of one account.

    `durations` are those of calls that were not rate-limited. `waits` are those of jobs for their permits.
    `ends` has the minutes of the last hour, and `totals` counts all jobs that ended, by kind and code. `hours` has the
    tokens of the last two days, by the start of the hour (ms) and the model, and `tokens` those of all time.
    """

    account: str
    now_ms: int
    ends: Sequence[Ends] = ()
    totals: Counter[tuple[str, str]] = field(default_factory=Counter)
    hours: dict[tuple[int, str], Tokens] = field(default_factory=dict)
    tokens: dict[str, Tokens] = field(default_factory=dict)
    durations: Histogram = NO_CALLS
    waits: Histogram = NO_CALLS

    def per_minute(self, kind: Kind | None = None) -> list[tuple[int, int, int]]:
        """Return (start of the minute in ms, succeeded, failed) for each minute of the last hour, the oldest first.

        The last one is the current minute. Cancelled jobs are in neither number.
        """
        last_ms = self.now_ms // MINUTE_MS * MINUTE_MS
        first_ms = last_ms - (names.ACTIVITY_MINUTES.seconds // 60 - 1) * MINUTE_MS
        succeeded: Counter[int] = Counter()
        failed: Counter[int] = Counter()
        for each in self.ends:
            if kind in (None, each.kind) and each.code != "cancelled":
                (failed if each.code else succeeded)[each.minute_ms] += each.count
        return [(at_ms, succeeded[at_ms], failed[at_ms]) for at_ms in range(first_ms, last_ms + 1, MINUTE_MS)]

    def by_code(self, since_ms: int = 0) -> Counter[str]:
        """Return how many jobs and lines ended with each code ("" for success), at most within the last hour."""
        found: Counter[str] = Counter()
        for each in self.ends:
            if each.minute_ms >= since_ms:
                found[each.code] += each.count
        return found

    def tokens_since(self, since_ms: int) -> dict[str, Tokens]:
        """Return the tokens by model since this time, which should be the start of an hour within the last two days."""
        found: dict[str, Tokens] = {}
        for (hour_ms, model), tokens in self.hours.items():
            if hour_ms >= since_ms:
                _add(found.setdefault(model, Tokens()), tokens)
        return found


class Activities(ScriptRunner):
    """Operations of people and dashboards."""

    def activities(self, accounts: Sequence[str]) -> list[Activity]:
        """Return the activity of these accounts, in their order, in two round trips."""
        now_ms = self._now_ms()
        pipeline: Any = self._client.pipeline(transaction=False)
        for account in accounts:
            pipeline.hgetall(names.activity_key(account)).hgetall(names.call_times_key(account))
        found = iter({decode(name): int(value) for name, value in fields.items()} for fields in pipeline.execute())
        return [_activity(account, now_ms, next(found), next(found)) for account in accounts]


def _activity(account: str, now_ms: int, fields: dict[str, int], times: dict[str, int]) -> Activity:
    ends = []
    durations, waits = histograms_of(times)
    activity = Activity(account, now_ms, durations=durations, waits=waits)
    first_minute_ms = now_ms - names.ACTIVITY_MINUTES.total_seconds() * 1000
    for time, what, of, value in _parsed(fields):
        if what == "end":
            kind, _, code = of.partition(" ")
            activity.totals[kind, code] += value
            if time * MINUTE_MS >= first_minute_ms:
                ends.append(Ends(time * MINUTE_MS, kind, code, value))
            continue
        tokens = Tokens(**{what: value})
        _add(activity.tokens.setdefault(of, Tokens()), tokens)
        if time:
            _add(activity.hours.setdefault((time * HOUR_MS, of), Tokens()), tokens)
    ends.sort(key=lambda each: each.minute_ms)
    return replace(activity, ends=ends)


def _parsed(fields: dict[str, int]) -> Iterator[tuple[int, str, str, int]]:
    for name, value in fields.items():
        time, _, rest = name.partition(" ")
        what, _, of = rest.partition(" ")
        if what in ("end", "prompt", "completion", "uncounted"):
            yield int(time), what, of, value


def _add(to: Tokens, more: Tokens) -> None:
    to.prompt += more.prompt
    to.completion += more.completion
    to.uncounted += more.uncounted
