"""A single job of a web app beside a large file: how long it waits for a worker, and what it leaves to the file."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mira_producer.processes import environment_of

from bench.bulk import machine
from bench.bulk.files import count_lines, write_input
from bench.bulk.running import COMMAND, start_run
from bench.bulk.stage import Stage, body
from bench.bulk.table import Bar, Table, progress
from mira_queue import Job, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion
from tests.support.waiting import wait_until

SINGLES_S, QUICK_SINGLES_S = 20.0, 1.0
APART_S = 0.1
LINES = 100_000
# The file alone; and where single jobs come as fast as they can, so many waiting at any time, both.
MEASURED_S, QUICK_MEASURED_S = 10.0, 1.0
WAITING, AT_ONCE = 500, 100
# A new account with slow answers starts with few calls in flight.
START_TIMEOUT_S = 600.0
# More calls in flight than all workers have slots.
ROOM = 1000
MEDIAN, P99 = Bar(50, " ms", at_most=True), Bar(250, " ms", at_most=True)


@dataclass(frozen=True, slots=True)
class Variant:
    """A single job comes every `apart_s`; 0: as fast as they can.

    `admitted`: calls in flight, and told; 0: any number, and it has to be found out. ROOM: any number, told.
    """

    name: str
    latency_s: float
    is_busy: bool = True
    admitted: int = 0
    apart_s: float = APART_S
    has_bar: bool = False
    in_quick: bool = False


VARIANTS = (
    Variant("no file, answers at once", 0.0, is_busy=False, in_quick=True),
    Variant("a file, answers at once", 0.0, has_bar=True, in_quick=True),
    Variant("a file, answers of 0.5 s, every slot taken", 0.5, admitted=ROOM, has_bar=True),
    # As many calls are let through as have been proven: to the pacer, the account has no room yet.
    Variant("a file, answers of 0.5 s, limits being found out", 0.5),
    # No room in the account: a place comes free every 50 ms. The single jobs need a tenth of them, half, or all.
    Variant("a file, answers of 0.5 s, 10 in flight admitted", 0.5, admitted=10, apart_s=0.5),
    Variant("... a single job each 0.1 s", 0.5, admitted=10),
    Variant("... single jobs without end", 0.5, admitted=10, apart_s=0),
    Variant("a file, answers at once, single jobs without end", 0.0, apart_s=0, in_quick=True),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Waits of the single jobs, ms (not of those without end); a second: single jobs, lines before and meanwhile."""

    waits: list[float]
    singles: float
    lines_before: float
    lines: float


def table(runs: int, quick: bool) -> Table:
    runs = 1 if quick else min(runs, 3)
    found: dict[Variant, list[Found]] = {}
    for _ in range(runs):
        for variant in (each for each in VARIANTS if each.in_quick or not quick):
            each = measure(variant, quick)
            found.setdefault(variant, []).append(each)
            waits = f"median {statistics.median(each.waits):,.0f} ms, " if each.waits else ""
            progress(f"{variant.name}: {waits}{each.lines_before:.0f} lines/s, then {each.lines:.0f}")
    printed = Table(
        f"beside: single jobs, for {QUICK_SINGLES_S if quick else SINGLES_S:g} s one each {APART_S:g} s, beside "
        f"mira-queue run; mira-queue worker --processes 2; medians of {runs}",
        ("wait median ms", "p90", "p99", "worst", "single/s", "lines/s before", "meanwhile"),
    )
    for variant, all_found in found.items():
        shown = [
            statistics.median(_at(each.waits, share) for each in all_found) for share in _SHARES if all_found[0].waits
        ]
        printed.add(
            variant.name,
            *([f"{wait:,.0f}" for wait in shown] or [""] * len(_SHARES)),
            f"{statistics.median(each.singles for each in all_found):.0f}",
            f"{statistics.median(each.lines_before for each in all_found):.0f}",
            f"{statistics.median(each.lines for each in all_found):.0f}",
            bars=[(MEDIAN, shown[0]), (P99, shown[2])] if variant.has_bar else [],
        )
    printed.notes.append("the wait: from acceptance to the result by the server's clock, less the call itself")
    return printed


_SHARES = (0.5, 0.9, 0.99, 1.0)


def _at(waits: list[float], share: float) -> float:
    return sorted(waits)[min(len(waits) - 1, int(len(waits) * share))]


def measure(variant: Variant, quick: bool) -> Found:
    measured_s, singles_s = (QUICK_MEASURED_S, QUICK_SINGLES_S) if quick else (MEASURED_S, SINGLES_S)
    with _staged(variant) as (stage, queue):
        if not variant.is_busy:
            jobs = _one_by_one(queue, singles_s, variant.apart_s)
            return Found([_waited_ms(job) for job in jobs], 1 / variant.apart_s, 0.0, 0.0)
        answers = stage.folder / "answers"
        with _file(stage, answers, variant.admitted > 0):
            began, began_s = count_lines(answers), time.monotonic()
            time.sleep(measured_s)
            before, before_s = count_lines(answers), time.monotonic()
            if variant.apart_s:
                jobs = _one_by_one(queue, singles_s, variant.apart_s)
                ended = len(jobs)
            else:
                jobs, ended = [], _without_end(stage, queue, measured_s)
            after, after_s = count_lines(answers), time.monotonic()
            waits = [_waited_ms(job) for job in jobs]
    took_s = after_s - before_s
    return Found(waits, ended / took_s, (before - began) / (before_s - began_s), (after - before) / took_s)


@contextmanager
def _staged(variant: Variant) -> Iterator[tuple[Stage, MiraQueue]]:
    """Workers as a user starts them, ready; one job is done."""
    limits: dict[str, Any] = {"concurrency": variant.admitted} if variant.admitted else {}
    told: dict[str, Any] = {"max_in_flight": variant.admitted} if variant.admitted else {}
    with Stage(latency_s=variant.latency_s, **limits) as stage:
        settings = stage.settings(log_format="json", **told)
        queue = stage.queue(settings)
        log = stage.folder / "worker.log"
        with log.open("wb") as output:
            command = [*COMMAND, "worker", "--processes", "2"]
            env = {**os.environ, **environment_of(settings)}
            stage.keep(subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output))
        wait_until("all workers are ready", lambda: log.read_text().count('"ready"') == 3)
        queue.enqueue([{"role": "user", "content": "are you there?"}]).result(timeout=60)
        yield stage, queue


@contextmanager
def _file(stage: Stage, answers: Path, is_told: bool) -> Iterator[None]:
    """A file that is under way; where the account's limits were not told, enough is known of them."""
    path = write_input(stage.folder / "input.jsonl", LINES)
    arguments = ["--workers", "0", "--output", str(answers)]
    run = stage.keep(start_run(path, stage.api.url, *arguments, redis_url=stage.redis_url))
    enough = 100 if is_told else 500
    wait_until("the file is in progress", lambda: answers.exists() and count_lines(answers) >= enough, START_TIMEOUT_S)
    yield
    if run.poll() is not None:
        raise RuntimeError("the file had ended before the single jobs had")
    # Not stopped in order: its hundred thousand lines are of no interest.
    for pid in reversed(machine.tree(run.pid)):
        os.kill(pid, 9)


def _one_by_one(queue: MiraQueue, seconds: float, apart_s: float) -> list[Job]:
    jobs = []
    count = max(10, round(seconds / apart_s))
    began_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began_s + number * apart_s - time.monotonic()))
        jobs.append(queue.enqueue([{"role": "user", "content": f"A single question, {number}"}]))
    return jobs


def _without_end(stage: Stage, queue: MiraQueue, seconds: float) -> int:
    """Single jobs wait at any time, for so long; how many were begun."""
    accepted = waiting = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        waiting = int(stage.redis.zcard(names.queued_key(Lane.NORMAL)))
        if waiting < WAITING:
            queue.enqueue_many(body(number) for number in range(accepted, accepted + AT_ONCE))
            accepted += AT_ONCE
        else:
            time.sleep(0.01)
    return accepted - waiting


def _waited_ms(job: Job) -> float:
    outcome = job.outcome(timeout=60)
    status = job.status()
    if not isinstance(outcome, Completion) or status.finished_ms is None:
        raise RuntimeError(f"{job.id} failed: {outcome}")
    return float(status.finished_ms - status.created_ms - outcome.latency_ms)
