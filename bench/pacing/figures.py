"""Compute figures from the simulator's log, most of them as shares of what the account admits. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from bench.pacing.ideal import ideal_s
from bench.pacing.scenarios import OUTAGE_S, Change, Scenario

# Time over which the use of slots is averaged: ten calls of 0.2 s.
SPAN_S = 2.0
NEAR = 0.9
NEVER = float("inf")
# Of a call of these benchmarks.
PROMPT_TOKENS = 3


@dataclass(frozen=True, slots=True)
class Call:
    """One call in the simulator's log. `left_s` is when its slot became free, or None for a rate-limited call."""

    came_s: float
    word: str
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """Log of a run: calls by time, from the first one to `end_s`, and the times of the changes (simulator's clock).

    `shares` are the answered calls of each process. `attempts_lost` is the maximum over all jobs.
    """

    scenario: Scenario
    calls: Sequence[Call]
    end_s: float
    changed_s: Sequence[float]
    early: int
    crossed: int = 0
    kills: int = 0
    shares: Sequence[int] = ()
    attempts_lost: int = 0

    @property
    def admitted(self) -> list[Call]:
        return [call for call in self.calls if call.word == "admitted"]


def figures(run: Run) -> dict[str, float]:
    """Return the figures. steady, overall (with warm-up), and rate_limited are shares."""
    scenario = run.scenario
    admitted = run.admitted
    if scenario.calls:
        return _of_calls(run, scenario.calls)
    refused = _refused(run.calls)
    found: dict[str, float] = {"early": run.early, "rate_limited": refused / max(1, refused + len(admitted))}
    if not admitted:
        return found | {name: 0.0 for name in scenario.targets if name not in found}
    began_s = admitted[0].came_s
    if scenario.changes:
        found |= _after_changes(run, admitted)
    if "unfair" in scenario.targets:
        found["unfair"] = max(run.shares) / max(1, min(run.shares)) - 1 if run.shares else NEVER
    if scenario.bound == "slots":
        middle_s = began_s + (run.end_s - began_s) / 2
        most = scenario.api["concurrency"]
        if not scenario.changes:
            found["steady"] = in_use(admitted, middle_s, run.end_s) / most
            found["overall"] = in_use(admitted, began_s, run.end_s) / most
    elif not scenario.changes:
        most, times = scenario.api["rate"], [call.came_s for call in admitted]
        found["steady"] = window_share(times[len(times) // 2 :], most, scenario.window_s)
        found["overall"] = window_share(times, most, scenario.window_s)
    return found


def _refused(calls: Sequence[Call]) -> int:
    return len([call for call in calls if call.word in ("rate", "tokens", "concurrency")])


def _of_calls(run: Run, wanted: int) -> dict[str, float]:
    """Return the figures of a run of so many calls. If it was stopped before, those of the calls that were admitted."""
    scenario, admitted = run.scenario, run.admitted[:wanted]
    began_s = run.calls[0].came_s
    last_s = admitted[-1].came_s if len(admitted) == wanted else run.end_s
    refused = _refused([call for call in run.calls if call.came_s <= last_s])
    found: dict[str, float] = {"early": run.early, "rate_limited": refused / (refused + len(admitted))}
    if scenario.ideal_s is None:
        best_s = ideal_s(scenario.api, len(admitted), began_s, (scenario.max_tokens or 0) + PROMPT_TOKENS)
    else:
        best_s = scenario.ideal_s * len(admitted) / wanted
        last_s = max((call.left_s for call in admitted if call.left_s is not None), default=run.end_s)
    found |= {"overall": best_s / (last_s - began_s), "took_s": last_s - began_s}
    return found | {
        f"slots_{slots}_s": first_in_flight(admitted, slots) - began_s
        for slots in (200, 1000)
        if f"slots_{slots}_s" in scenario.targets
    }


def first_in_flight(calls: Sequence[Call], slots: int) -> float:
    """Return when so many calls were in flight for the first time."""
    events = [(call.came_s, 1) for call in calls]
    events += [(call.left_s, -1) for call in calls if call.left_s is not None]
    in_flight = 0
    for at_s, change in sorted(events):
        in_flight += change
        if in_flight >= slots:
            return at_s
    return NEVER


def window_share(times: Sequence[float], most: int, window_s: float) -> float:
    """Return the time that a sliding window needs for these calls, as a share of the time that they took.

    The time runs from a call to the call that is whole windows later, so that no burst is split.
    """
    windows = (len(times) - 1) // most
    if windows < 1:
        return 0.0
    return windows * window_s / (times[windows * most] - times[0])


def in_use(calls: Sequence[Call], from_s: float, to_s: float) -> float:
    """Return the mean number of calls in flight at the API, by its clock, so that calls of any length count equally."""
    used_s = sum(max(0.0, min(to_s, to_s if c.left_s is None else c.left_s) - max(from_s, c.came_s)) for c in calls)
    return used_s / (to_s - from_s)


def best_by_rate(changes: Sequence[tuple[float, int]], window_s: float, seconds: float) -> int:
    """Return how many calls an account admits at best. `changes` are pairs (since when, limit)."""
    times: list[float] = []
    now_s = 0.0
    while True:
        most = next(most for at_s, most in reversed(changes) if at_s <= now_s)
        if len(times) >= most and times[-most] + window_s > now_s:
            # The window is full until a call leaves it or the limit rises.
            later = [at_s for at_s, _ in changes if at_s > now_s]
            now_s = min([times[-most] + window_s, *later])
            continue
        if now_s >= seconds:
            return len(times)
        times.append(now_s)


def _after_changes(run: Run, admitted: Sequence[Call]) -> dict[str, float]:
    scenario, targets = run.scenario, run.scenario.targets
    began_s, times = admitted[0].came_s, [call.came_s for call in admitted]
    found: dict[str, float] = {}
    if "overall" in targets:
        steps = [(0.0, scenario.api["rate"])]
        steps += [(at_s - began_s, change.config["rate"]) for at_s, change in _changes(run)]
        found["overall"] = len(times) / best_by_rate(steps, scenario.window_s, run.end_s - began_s)
    for at_s, change in _changes(run):
        if "windows_to_90" in targets:
            enough = round(change.config["rate"] * NEAR)
            found["windows_to_90"] = (_full_window(times, enough, scenario.window_s) - at_s) / scenario.window_s
        if "seconds_to_90" in targets:
            found["seconds_to_90"] = _full_slots(admitted, change.config["concurrency"] * NEAR, at_s, run.end_s) - at_s
        if "first_answer_s" in targets:
            end_s = at_s + OUTAGE_S
            answered_s = min((c.left_s for c in admitted if c.left_s and c.left_s >= end_s), default=NEVER)
            found["first_answer_s"] = max(found.get("first_answer_s", 0.0), answered_s - end_s)
    if "attempts_lost" in targets:
        found["attempts_lost"] = run.attempts_lost
    return found


def _changes(run: Run) -> list[tuple[float, Change]]:
    return list(zip(run.changed_s, run.scenario.changes, strict=False))


def _full_window(times: Sequence[float], enough: int, window_s: float) -> float:
    """Return when a window had `enough` calls for the first time."""
    for last in range(enough - 1, len(times)):
        if times[last] - times[last - enough + 1] < window_s:
            return times[last]
    return NEVER


def _full_slots(calls: Sequence[Call], enough: float, from_s: float, end_s: float) -> float:
    """Return when the mean number of calls in flight over SPAN_S reached `enough` for the first time."""
    ends = sorted(call.left_s for call in calls if call.left_s and call.left_s >= from_s + SPAN_S)
    for at_s in ends[: bisect_left(ends, end_s)]:
        if in_use(calls, at_s - SPAN_S, at_s) >= enough:
            return at_s
    return NEVER
