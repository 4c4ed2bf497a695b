"""Time per line and peak memory must not depend on the length of the file."""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.bulk.files import count_lines, write_input
from bench.bulk.running import Ran, run_file
from bench.bulk.table import Table, Target, progress
from tests.support.simulator_process import SimulatorProcess

LENGTHS, QUICK_LENGTHS, MILLION = (10_000, 100_000), (100, 300), 1_000_000
# The first calls of a new account are slow. They do not depend on the length of the file.
LINES_BEFORE, QUICK_LINES_BEFORE = 1_500, 0
# Longer files take minutes each.
MAX_RUNS = 3
PARTS = ("server", "worker", "run")
FLAT = Target(1.10, "x", at_most=True)


def table(runs: int, quick: bool, full: bool) -> Table:
    """Measure the time per line, without the time of a run of one line (starting and stopping all processes).

    The account was used before, because the first calls of a new account are slow.
    """
    lengths: tuple[int, ...] = QUICK_LENGTHS if quick else LENGTHS
    runs = 1 if quick else min(runs, MAX_RUNS)
    found: dict[int, list[Ran]] = {}
    for number in range(runs):
        # Run the million once, in the middle: a machine that slows down must not look like an effect of the length.
        for lines in (1, *lengths, *[MILLION] * (full and number == runs // 2)):
            found.setdefault(lines, []).append(measure(lines, QUICK_LINES_BEFORE if quick else LINES_BEFORE))
            progress(f"{lines:,} lines: {found[lines][-1].took_s:,.1f} s")
    lengths = tuple(length for length in found if length > 1)
    base_s = statistics.median(each.took_s for each in found[1])
    printed = Table(
        f"flat: mira-queue run, one worker, no latency, medians of {runs}; a single line takes {base_s:.1f} s",
        ("time", "us/line", *(f"{part} CPU us/line" for part in PARTS), *(f"{part} MiB" for part in PARTS)),
    )
    first: dict[str, float] = {}
    for lines in sorted(lengths):
        figures = _figures(found[lines], lines, found[1])
        cells = [f"{statistics.median(each.took_s for each in found[lines]):.1f} s"]
        cells += [f"{value:,.0f}" if "us" in name else f"{value:,.1f}" for name, value in figures.items()]
        targets = [(_named(name), _ratio(value, first[name])) for name, value in figures.items() if name in first]
        printed.add(
            f"{lines:,} lines" + " (once)" * (lines == MILLION),
            *cells,
            targets=[each for each in targets if "CPU" not in each[0].unit],
        )
        first = first or figures
    return printed


def measure(lines: int, lines_before: int) -> Ran:
    """Run a file on its own simulator and server, after a short run that uses the account."""
    with (
        tempfile.TemporaryDirectory(prefix="mq-bench-") as folder,
        SimulatorProcess.start("--no-request-counts") as simulator,
    ):
        if lines_before:
            run_file(write_input(Path(folder) / "before.jsonl", lines_before), simulator.url)
        path = write_input(Path(folder) / "input.jsonl", lines)
        output = path.with_suffix(".output")
        ran = run_file(path, simulator.url, "--output", str(output))
        if count_lines(output) != lines:
            raise RuntimeError(f"{count_lines(output)} of {lines} lines were answered")
    return ran


def _figures(runs: list[Ran], lines: int, alone: list[Ran]) -> dict[str, float]:
    def us_a_line(seconds: Callable[[Ran], float]) -> float:
        return (statistics.median(map(seconds, runs)) - statistics.median(map(seconds, alone))) / lines * 1e6

    found = {"us/line": us_a_line(lambda ran: ran.took_s)}
    for part in PARTS:

        def cpu_s(ran: Ran, part: str = part) -> float:
            return ran.cpu_s[part]

        found[f"{part} CPU us/line"] = us_a_line(cpu_s)
    return found | {f"{part} MiB": statistics.median(each.peak_mib[part] for each in runs) for part in PARTS}


def _ratio(one: float, other: float) -> float:
    """Return the larger value divided by the smaller one."""
    lower, higher = sorted((one, other))
    return higher / lower if lower > 0 else math.inf


def _named(name: str) -> Target:
    return Target(FLAT.wanted, f"x ({name})", at_most=True)
