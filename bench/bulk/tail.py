"""The end of a file: 1,000 lines, 100 in flight, latency 2 s. The last lines must not take longer."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from typing import Any

from mira_producer.cost.prices import Prices
from mira_producer.engine.engine import Engine, Hooks
from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan

from bench.bulk.files import write_input
from bench.bulk.running import start_run
from bench.bulk.stage import Stage
from bench.bulk.table import Table, Target, progress, ratio
from mira_queue.contract.batch import BatchFiles, BatchOptions

LATENCY_S, SLOTS, LINES = 2.0, 100, 1000
QUICK_LINES = 120
NO_TAIL = Target(1.1, "x", at_most=True)
WINDOW_PER_SLOT = 8


@dataclass(frozen=True, slots=True)
class Variant:
    """One measurement. `processes` share the slots. If `configured`, MIRA_MAX_IN_FLIGHT is the account's limit.

    With `by_command`, `mira-queue run` is started as a user does. Its target excludes the time to start and to stop.
    """

    name: str
    processes: int
    configured: bool = True
    by_command: bool = False
    has_target: bool = True
    in_quick: bool = False


VARIANTS = (
    Variant("configured, 1 process", 1),
    Variant("configured, 2 processes", 2, in_quick=True),
    Variant("configured, mira-queue run", 1, by_command=True, in_quick=True),
    Variant("configured, mira-queue run --workers 2", 2, by_command=True),
    # The limit must be learned first. That takes time, but it is not the end of a file.
    Variant("not configured, 2 processes", 2, configured=False, has_target=False),
)


def table(runs: int, quick: bool) -> Table:
    lines = QUICK_LINES if quick else LINES
    runs = 1 if quick else min(runs, 3)
    ideal_s = lines / SLOTS * LATENCY_S
    found: dict[Variant, list[tuple[float, float, int]]] = {}
    for _ in range(runs):
        for variant in (each for each in VARIANTS if each.in_quick or not quick):
            found.setdefault(variant, []).append(measure(variant, lines))
            progress(f"{variant.name}: {found[variant][-1]}")
    printed = Table(
        f"tail: {lines:,} lines, latency {LATENCY_S:g} s, {SLOTS} in flight; ideal {ideal_s:g} s; medians of {runs}",
        ("total s", "of the ideal", "first call to last answer s", "of the ideal", "rate_limited"),
    )
    for variant, each in found.items():
        total_s, calls_s = (statistics.median(run[place] for run in each) for place in (0, 1))
        printed.add(
            variant.name,
            f"{total_s:.2f}",
            ratio(total_s / ideal_s),
            f"{calls_s:.2f}",
            ratio(calls_s / ideal_s),
            round(statistics.median(run[2] for run in each)),
            targets=[(NO_TAIL, (calls_s if variant.by_command else total_s) / ideal_s)] if variant.has_target else [],
        )
    return printed


def measure(variant: Variant, lines: int) -> tuple[float, float, int]:
    """Return (seconds from first to last line, seconds from first call to last answer, rate-limited calls)."""
    configured: dict[str, Any] = {"max_in_flight": SLOTS} if variant.configured else {}
    with Stage(latency_s=LATENCY_S, concurrency=SLOTS, concurrency_retry_after_s=1, log_calls=True) as stage:
        if variant.by_command:
            total_s = _by_command(stage, variant, lines)
            return total_s, *_calls(stage, lines)
        settings = stage.settings(concurrency=SLOTS // variant.processes, **configured)
        queue = stage.queue(settings)
        for _ in range(variant.processes):
            stage.worker(settings)
        path = write_input(stage.folder / "input.jsonl", lines)
        suffixes = (".jsonl", ".output", ".errors", ".record", ".prices")
        files = BatchFiles(*(path.with_suffix(suffix) for suffix in suffixes))
        plan = Plan(files, BatchOptions(), Prices(), queue.check)
        hooks = Hooks(show=lambda *_: None, say=progress, tend=lambda: None)
        engine = Engine(queue, plan, hooks, threading.Event(), window=SLOTS * WINDOW_PER_SLOT)
        began_s = time.monotonic()
        end = engine.run()
        total_s = time.monotonic() - began_s
        engine.close()
        plan.close()
        if end is not End.COMPLETE:
            raise RuntimeError(end.value)
        return total_s, *_calls(stage, lines)


def _by_command(stage: Stage, variant: Variant, lines: int) -> float:
    path = write_input(stage.folder / "input.jsonl", lines)
    slots = str(SLOTS // variant.processes)
    began_s = time.monotonic()
    configured = {"MIRA_MAX_IN_FLIGHT": str(SLOTS)} if variant.configured else {}
    arguments = ["--workers", str(variant.processes), "--concurrency", slots]
    run = stage.keep(start_run(path, stage.api.url, *arguments, **configured))
    if code := run.wait():
        raise RuntimeError(f"the run exited with code {code}:\n{path.with_suffix('.log').read_text()[-2000:]}")
    return time.monotonic() - began_s


def _calls(stage: Stage, lines: int) -> tuple[float, int]:
    """Return (seconds from the first call to the last answer, rate-limited calls)."""
    calls = stage.api.calls()
    answered = [call for call in calls if call["word"] == "admitted"]
    if len(answered) < lines:
        raise RuntimeError(f"{len(answered)} answers of {lines}")
    return max(call["left_s"] for call in answered) - min(call["came_s"] for call in answered), len(calls) - len(
        answered
    )
