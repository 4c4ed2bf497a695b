"""Draw a run: calls, rate-limited calls, and the estimated limits over time. Needs matplotlib."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.pacing.figures import Call
from bench.pacing.ours import LoggedRun
from bench.pacing.scenarios import OUTAGE_S

CALLS, REFUSED, LEARNED, TRUE, CLOSED = "#4c78a8", "#d62728", "#f58518", "#333333", "#bbbbbb"
STEP_S = 0.05
Steps = list[tuple[float, float]]


def draw(logged: LoggedRun, file: Path) -> None:
    # Equal runs give equal files: no date, no random IDs. Text stays text.
    mpl.rcParams.update({"svg.hashsalt": "mira-queue", "svg.fonttype": "none", "font.size": 9})
    run, scenario = logged.run, logged.run.scenario
    zero_s = run.calls[0].came_s
    end_s = run.end_s - zero_s
    figure = Figure(figsize=(10, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])

    changes = list(zip((at_s - zero_s for at_s in run.changed_s), scenario.changes, strict=True))
    for axes, name, kind in ((above, "rate", "calls"), (below, "concurrency", "in_flight")):
        _closed(axes, logged, zero_s, end_s)
        true = [(0.0, float(scenario.api[name]))]
        true += [(at_s, float(change.config[name])) for at_s, change in changes if name in change.config]
        _line(axes, true, end_s, color=TRUE, linestyle="--", linewidth=1, label="the account's limit")
        _line(
            axes, _estimates(logged, kind, zero_s), end_s, color=LEARNED, linewidth=1.6, label="admitted by the pacer"
        )
        for at_s, change in changes:
            if change.outage:
                axes.axvspan(at_s, at_s + OUTAGE_S, color=REFUSED, alpha=0.12, linewidth=0, label="outage")

    moments = [number * STEP_S for number in range(int(end_s / STEP_S))]
    came = [call.came_s - zero_s for call in run.calls if call.word in ("admitted", "rate", "concurrency")]
    window_s = scenario.window_s
    in_window = [bisect_right(came, at_s) - bisect_right(came, at_s - window_s) for at_s in moments]
    above.fill_between(
        moments, in_window, color=CALLS, alpha=0.45, linewidth=0, label=f"calls in the last {window_s:g} s"
    )
    below.fill_between(moments, _in_flight(run.admitted, moments, zero_s), color=CALLS, alpha=0.45, linewidth=0,
                       label="calls in flight")  # fmt: skip
    for axes, word in ((above, "rate"), (below, "concurrency")):
        refused = [call.came_s - zero_s for call in run.calls if call.word == word]
        top = axes.get_ylim()[1]
        axes.plot(
            refused, [top] * len(refused), "x", color=REFUSED, markersize=5, label=f"rate-limited ({len(refused)})"
        )
        axes.set_ylim(0, top * 1.08)
        _legend(axes)
    above.set_ylabel("calls per window")
    below.set_ylabel("calls in flight")
    below.set_xlabel("seconds since the first call (gray: the circuit breaker is open)")
    above.set_title(
        f"Limits unknown to the client: {len(run.admitted)} calls admitted, {run.early} too early", loc="left"
    )
    figure.savefig(file, format="svg", metadata={"Date": None})


def _estimates(logged: LoggedRun, kind: str, zero_s: float) -> Steps:
    """Return the estimates from the log lines `limit`."""
    lines = [line for line in logged.log if line["event"] == "limit" and line["kind"] == kind]
    return sorted((_at(line, logged, zero_s), float(line["trying"] or line["max_calls"])) for line in lines)


def _closed(axes: Axes, logged: LoggedRun, zero_s: float, end_s: float) -> None:
    """Draw in gray the times at which the circuit breaker is open."""
    lines = sorted(
        (_at(line, logged, zero_s), line["event"]) for line in logged.log if line["event"].startswith("breaker_")
    )
    began_s: float | None = None
    for at_s, event in [*lines, (end_s, "breaker_closed")]:
        if event == "breaker_opened" and began_s is None:
            began_s = at_s
        elif event == "breaker_closed" and began_s is not None:
            axes.axvspan(began_s, min(at_s, end_s), color=CLOSED, alpha=0.4, linewidth=0)
            began_s = None


def _in_flight(calls: list[Call], moments: Iterable[float], zero_s: float) -> list[int]:
    came = sorted(call.came_s - zero_s for call in calls)
    left = sorted(call.left_s - zero_s for call in calls if call.left_s is not None)
    return [bisect_right(came, at_s) - bisect_right(left, at_s) for at_s in moments]


def _line(axes: Axes, steps: Steps, end_s: float, **style: Any) -> None:
    if not steps:
        return
    points = [steps[0]]
    for (_, before), (at_s, after) in pairwise(steps):
        points += [(at_s, before), (at_s, after)]
    points.append((end_s, steps[-1][1]))
    axes.plot([x for x, _ in points], [y for _, y in points], **style)


def _at(line: dict[str, Any], logged: LoggedRun, zero_s: float) -> float:
    return datetime.fromisoformat(line["timestamp"]).timestamp() - logged.began_s - zero_s


def _legend(axes: Axes) -> None:
    """Draw a legend with one entry per name."""
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    axes.legend(once.values(), once.keys(), loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
