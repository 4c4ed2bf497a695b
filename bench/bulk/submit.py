"""Lines accepted per second, and the server's memory per open job. No worker runs."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mira_producer.cost.prices import Prices
from mira_producer.engine.account_errors import AccountErrors
from mira_producer.engine.plan import Plan
from mira_producer.engine.window import Window

from bench.bulk import machine
from bench.bulk.files import write_input
from bench.bulk.stage import Stage, body
from bench.bulk.table import Table, Target, progress
from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.names import Lane
from mira_queue.ledger.records import NewJob, new_job_id

LINES, QUICK_LINES = 50_000, 1_000
RATE = Target(20_000, " lines/s")
WITH_TARGET = ("accept, checked before", "a run's window")
MEMORY = Target(1.2 * 1024, " bytes", at_most=True)


@dataclass(slots=True)
class Span:
    """Elapsed time, and processor time of this process and of the server, in seconds."""

    took_s: float = 0.0
    own_cpu_s: float = 0.0
    server_cpu_s: float = 0.0

    def __add__(self, other: Span) -> Span:
        return Span(
            self.took_s + other.took_s,
            self.own_cpu_s + other.own_cpu_s,
            self.server_cpu_s + other.server_cpu_s,
        )


# By step: a span, or bytes of the server's memory per job.
Figures = dict[str, Span | float]


def table(runs: int, quick: bool) -> Table:
    lines = QUICK_LINES if quick else LINES
    found: dict[str, list[Span | float]] = {}
    for _ in range(runs):
        for way in (_accept, _window):
            with Stage() as stage:
                for name, value in way(stage, stage.queue(stage.settings()), lines).items():
                    found.setdefault(name, []).append(value)
        progress("submit")
    printed = Table(
        f"submit: {lines:,} lines with short prompts, medians of {runs}",
        ("median", "from", "to", "", "own CPU us/line", "server CPU us/line"),
    )
    for name, values in found.items():
        spans = [each for each in values if isinstance(each, Span)]
        if not spans:
            sizes = [each for each in values if isinstance(each, float)]
            median = statistics.median(sizes)
            sizes_told = (round(median), round(min(sizes)), round(max(sizes)))
            printed.add(name, *sizes_told, "bytes/job", "", "", targets=[(MEMORY, median)])
            continue
        rates = [lines / span.took_s for span in spans]
        median = statistics.median(rates)
        own_us = statistics.median(span.own_cpu_s for span in spans) / lines * 1e6
        server_us = statistics.median(span.server_cpu_s for span in spans) / lines * 1e6
        cells = (round(median), round(min(rates)), round(max(rates)), "lines/s", round(own_us), round(server_us))
        printed.add(name, *cells, targets=[(RATE, median)] if name in WITH_TARGET else [])
    return printed


def _accept(stage: Stage, queue: MiraQueue, lines: int) -> Figures:
    """Measure MiraQueue.accept with checked requests, and checking together with accepting."""
    before = stage.memory_bytes()
    bodies = [body(number) for number in range(lines)]
    with _timed(stage) as checking:
        jobs = [NewJob(queue.check(each), new_job_id(), group="bench", lane=Lane.BULK) for each in bodies]
    with _timed(stage) as accepting:
        queue.accept(jobs)
    return {
        "accept, checked before": accepting,
        "check and accept": checking + accepting,
        "memory, accept": (stage.memory_bytes() - before) / lines,
    }


def _window(stage: Stage, queue: MiraQueue, lines: int) -> Figures:
    """Measure a file as `mira-queue run` and a supervisor submit it: read, check, and index it, then read it again."""
    path = write_input(stage.folder / "input.jsonl", lines)
    files = BatchFiles(*(path.with_suffix(suffix) for suffix in (".jsonl", ".output", ".errors", ".record", ".prices")))
    before = stage.memory_bytes()
    with _timed(stage) as planning:
        plan = Plan(files, BatchOptions(), Prices(), queue.check)
    account_errors = AccountErrors("pause", queue.settings.model)
    window = Window(queue, plan, queue.accounts.current, account_errors, None, size=lines)
    with _timed(stage) as filling:
        while not window.is_submitted and window.has_room():
            window.fill()
    used = stage.memory_bytes() - before
    if len(window.open) != lines:
        raise RuntimeError(f"{len(window.open)} of {lines} lines are open")
    window.close()
    plan.close()
    return {
        "a run's window": filling,
        "a run's plan, before it": planning,
        "plan, then window": planning + filling,
        "memory, a run's window": used / lines,
    }


@contextmanager
def _timed(stage: Stage) -> Iterator[Span]:
    """Yield a span that is filled at the end of the block."""
    span = Span()
    pids = ([os.getpid()], [stage.server_pid])
    before = [machine.cpu_s(each) for each in pids]
    began_s = time.perf_counter()
    yield span
    span.took_s = time.perf_counter() - began_s
    span.own_cpu_s, span.server_cpu_s = (machine.cpu_s(each) - used for each, used in zip(pids, before, strict=True))
