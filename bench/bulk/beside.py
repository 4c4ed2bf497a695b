"""A single job of a web app beside a large file: how long it waits for a worker when the account has room."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from dataclasses import dataclass

from bench.bulk import machine
from bench.bulk.files import count_lines, write_input
from bench.bulk.running import COMMAND, start_run
from bench.bulk.stage import Stage
from bench.bulk.table import Bar, Table, progress
from mira_queue.contract.outcome import Completion
from producer.processes import environment_of
from tests.waiting import wait_until

SINGLES, QUICK_SINGLES, APART_S = 200, 30, 0.1
LINES = 100_000
MEDIAN, P99 = Bar(50, " ms", at_most=True), Bar(250, " ms", at_most=True)


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    latency_s: float
    is_busy: bool
    has_bar: bool


VARIANTS = (
    Variant("no file, answers at once", 0.0, is_busy=False, has_bar=False),
    Variant("a file, answers at once", 0.0, is_busy=True, has_bar=True),
    Variant("a file, answers of 0.5 s, every slot taken", 0.5, is_busy=True, has_bar=False),
)


def table(runs: int, quick: bool) -> Table:
    singles = QUICK_SINGLES if quick else SINGLES
    runs = 1 if quick else min(runs, 3)
    found: dict[Variant, list[list[float]]] = {}
    rates: dict[Variant, list[float]] = {}
    for _ in range(runs):
        for variant in VARIANTS:
            waits, rate = measure(variant, singles)
            found.setdefault(variant, []).append(waits)
            rates.setdefault(variant, []).append(rate)
            progress(f"{variant.name}: median {statistics.median(waits):,.0f} ms")
    printed = Table(
        f"beside: {singles} single jobs, one each {APART_S:g} s, beside mira-queue run; "
        f"mira-queue worker --processes 2; medians of {runs}",
        ("wait median ms", "p90", "p99", "worst", "lines/s meanwhile"),
    )
    for variant, each in found.items():
        median, p90, p99, worst = (statistics.median(_at(waits, share) for waits in each) for share in _SHARES)
        printed.add(
            variant.name,
            *(f"{value:,.0f}" for value in (median, p90, p99, worst)),
            round(statistics.median(rates[variant])),
            bars=[(MEDIAN, median), (P99, p99)] if variant.has_bar else [],
        )
    printed.notes.append("the wait: from acceptance to the result by the server's clock, less the call itself")
    return printed


_SHARES = (0.5, 0.9, 0.99, 1.0)


def _at(waits: list[float], share: float) -> float:
    return sorted(waits)[min(len(waits) - 1, int(len(waits) * share))]


def measure(variant: Variant, singles: int) -> tuple[list[float], float]:
    """(the singles' waits in ms, lines a second of the file meanwhile)"""
    with Stage(latency_s=variant.latency_s) as stage:
        settings = stage.settings(log_format="json")
        queue = stage.queue(settings)
        log = stage.folder / "worker.log"
        with log.open("wb") as output:
            command = [*COMMAND, "worker", "--processes", "2"]
            env = {**os.environ, **environment_of(settings)}
            stage.keep(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
        wait_until("two workers are ready", lambda: log.read_text().count('"ready"') == 2)
        queue.enqueue([{"role": "user", "content": "are you there?"}]).result(timeout=60)
        answers = stage.folder / "answers"
        run = None
        if variant.is_busy:
            path = write_input(stage.folder / "input.jsonl", LINES)
            arguments = ["--workers", "0", "--output", str(answers)]
            run = stage.keep(start_run(path, stage.api.url, *arguments, redis_url=stage.redis_url))
            wait_until("the file is under way", lambda: answers.exists() and count_lines(answers) >= 500)
        before, began_s = count_lines(answers) if run else 0, time.monotonic()
        jobs = []
        for number in range(singles):
            time.sleep(max(0.0, began_s + number * APART_S - time.monotonic()))
            jobs.append(queue.enqueue([{"role": "user", "content": f"A single question, {number}"}]))
        took_s = time.monotonic() - began_s
        rate = (count_lines(answers) - before) / took_s if run else 0.0
        if run is not None and run.poll() is not None:
            raise RuntimeError("the file had ended before the single jobs had")
        waits = []
        for job in jobs:
            outcome = job.outcome(timeout=60)
            status = job.status()
            if not isinstance(outcome, Completion) or status.finished_ms is None:
                raise RuntimeError(f"{job.id} failed: {outcome}")
            waits.append(status.finished_ms - status.created_ms - outcome.latency_ms)
        if run is not None:
            # Not stopped in order: its hundred thousand lines are of no interest.
            for pid in reversed(machine.tree(run.pid)):
                os.kill(pid, 9)
    return [float(each) for each in waits], rate
