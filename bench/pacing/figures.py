"""From what the simulator wrote down to figures, each a share of what it could have admitted. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from bench.pacing.scenarios import OUTAGE_S, Change, Scenario

# A place is looked at for so long to say that it is in use: ten calls of 0.2 s.
LOOK_S = 2.0
NEAR = 0.9
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Call:
    """As the simulator logged it. `left_s`: when it made room again; None for one that was refused."""

    came_s: float
    word: str
    left_s: float | None


@dataclass(frozen=True, slots=True)
class Run:
    """What was seen: calls by time, from the first one to `end_s`, and when the changes took place (simulator's clock).

    `shares`: calls of each process that were answered. `attempts_lost`: by the job that lost most.
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
    """steady, overall (with warm-up) and refused are shares; see Scenario.bars for those that only some have."""
    scenario = run.scenario
    admitted = run.admitted
    refused = len([call for call in run.calls if call.word in ("rate", "concurrency")])
    found: dict[str, float] = {"early": run.early, "refused": refused / max(1, refused + len(admitted))}
    if not admitted:
        return found | {name: 0.0 for name in scenario.bars if name not in found}
    began_s = admitted[0].came_s
    if scenario.changes:
        found |= _after_changes(run, admitted)
    if "unfair" in scenario.bars:
        found["unfair"] = max(run.shares) / max(1, min(run.shares)) - 1 if run.shares else NEVER
    if scenario.bound == "places":
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


def window_share(times: Sequence[float], most: int, window_s: float) -> float:
    """The time that a sliding window needs for these calls, as a share of the time that they took.

    From a call to the one that is whole windows of calls later: no burst is cut in two.
    """
    windows = (len(times) - 1) // most
    if windows < 1:
        return 0.0
    return windows * window_s / (times[windows * most] - times[0])


def in_use(calls: Sequence[Call], from_s: float, to_s: float) -> float:
    """How many calls were in flight at the API, on average: by its clock, so that calls of any length count alike."""
    used_s = sum(max(0.0, min(to_s, to_s if c.left_s is None else c.left_s) - max(from_s, c.came_s)) for c in calls)
    return used_s / (to_s - from_s)


def best_by_rate(changes: Sequence[tuple[float, int]], window_s: float, seconds: float) -> int:
    """How many calls an account admits that is asked at the best moments; `changes` are (since when, how many)."""
    times: list[float] = []
    now_s = 0.0
    while True:
        most = next(most for at_s, most in reversed(changes) if at_s <= now_s)
        if len(times) >= most and times[-most] + window_s > now_s:
            # Full until the place that is free next, or until there are more.
            later = [at_s for at_s, _ in changes if at_s > now_s]
            now_s = min([times[-most] + window_s, *later])
            continue
        if now_s >= seconds:
            return len(times)
        times.append(now_s)


def _after_changes(run: Run, admitted: Sequence[Call]) -> dict[str, float]:
    scenario, bars = run.scenario, run.scenario.bars
    began_s, times = admitted[0].came_s, [call.came_s for call in admitted]
    found: dict[str, float] = {}
    if "overall" in bars:
        steps = [(0.0, scenario.api["rate"])]
        steps += [(at_s - began_s, change.config["rate"]) for at_s, change in _changes(run)]
        found["overall"] = len(times) / best_by_rate(steps, scenario.window_s, run.end_s - began_s)
    for at_s, change in _changes(run):
        if "windows_to_90" in bars:
            enough = round(change.config["rate"] * NEAR)
            found["windows_to_90"] = (_full_window(times, enough, scenario.window_s) - at_s) / scenario.window_s
        if "seconds_to_90" in bars:
            found["seconds_to_90"] = _full_places(admitted, change.config["concurrency"] * NEAR, at_s, run.end_s) - at_s
        if "first_answer_s" in bars:
            end_s = at_s + OUTAGE_S
            answered_s = min((c.left_s for c in admitted if c.left_s and c.left_s >= end_s), default=NEVER)
            found["first_answer_s"] = max(found.get("first_answer_s", 0.0), answered_s - end_s)
    if "attempts_lost" in bars:
        found["attempts_lost"] = run.attempts_lost
    return found


def _changes(run: Run) -> list[tuple[float, Change]]:
    return list(zip(run.changed_s, run.scenario.changes, strict=False))


def _full_window(times: Sequence[float], enough: int, window_s: float) -> float:
    """When for the first time so many calls were in one window."""
    for last in range(enough - 1, len(times)):
        if times[last] - times[last - enough + 1] < window_s:
            return times[last]
    return NEVER


def _full_places(calls: Sequence[Call], enough: float, from_s: float, end_s: float) -> float:
    """When for the first time so many were in flight on average, over the time of a look."""
    ends = sorted(call.left_s for call in calls if call.left_s and call.left_s >= from_s + LOOK_S)
    for at_s in ends[: bisect_left(ends, end_s)]:
        if in_use(calls, at_s - LOOK_S, at_s) >= enough:
            return at_s
    return NEVER
