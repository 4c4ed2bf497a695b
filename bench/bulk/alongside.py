"""A single job alongside a large file: how long the job waits, and how fast the file proceeds meanwhile."""

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
from bench.bulk.table import Table, Target, progress
from mira_queue import Job, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion
from tests.support.waiting import wait_until

SINGLES_S, QUICK_SINGLES_S = 20.0, 1.0
INTERVAL_S = 0.1
LINES, QUICK_LINES = 100_000, 20_000
# Duration of each measurement without a fixed number of single jobs. WAITING: queued single jobs; AT_ONCE: per call.
MEASURED_S, QUICK_MEASURED_S = 10.0, 1.0
WAITING, AT_ONCE = 500, 100
# A new account with slow answers starts with few calls in flight.
START_TIMEOUT_S = 600.0
# More calls in flight than all workers have slots together.
UNLIMITED = 1000
MEDIAN, P99 = Target(50, " ms", at_most=True), Target(250, " ms", at_most=True)


@dataclass(frozen=True, slots=True)
class Variant:
    """One measurement. A single job arrives every `interval_s` seconds, or continuously if it is 0.

    `admitted` is the account's concurrency limit, which is configured. If it is 0, there is no limit, and nothing is
    configured.
    """

    name: str
    latency_s: float
    is_busy: bool = True
    admitted: int = 0
    interval_s: float = INTERVAL_S
    has_target: bool = False
    in_quick: bool = False


VARIANTS = (
    Variant("no file, no latency", 0.0, is_busy=False, in_quick=True),
    Variant("a file, no latency", 0.0, has_target=True, in_quick=True),
    Variant("a file, latency 0.5 s, every slot busy", 0.5, admitted=UNLIMITED, has_target=True),
    # The pacer admits as many calls as it has learned so far.
    Variant("a file, latency 0.5 s, limits being learned", 0.5),
    # A slot of the account becomes free every 50 ms. The single jobs need a tenth of the slots, half, or all of them.
    Variant("a file, latency 0.5 s, at most 10 in flight", 0.5, admitted=10, interval_s=0.5),
    Variant("... a single job every 0.1 s", 0.5, admitted=10),
    Variant("... continuous single jobs", 0.5, admitted=10, interval_s=0),
    Variant("a file, no latency, continuous single jobs", 0.0, interval_s=0, in_quick=True),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Waits of the single jobs in ms, single jobs per second, and lines per second before and during them."""

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
        f"alongside: single jobs, for {QUICK_SINGLES_S if quick else SINGLES_S:g} s one every "
        f"{INTERVAL_S:g} s, alongside "
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
            targets=[(MEDIAN, shown[0]), (P99, shown[2])] if variant.has_target else [],
        )
    printed.notes.append("wait: from acceptance to result by the server's clock, without the call itself")
    return printed


_SHARES = (0.5, 0.9, 0.99, 1.0)


def _at(waits: list[float], share: float) -> float:
    return sorted(waits)[min(len(waits) - 1, int(len(waits) * share))]


def measure(variant: Variant, quick: bool) -> Found:
    measured_s, singles_s = (QUICK_MEASURED_S, QUICK_SINGLES_S) if quick else (MEASURED_S, SINGLES_S)
    with _staged(variant) as (stage, queue):
        if not variant.is_busy:
            jobs = _one_by_one(queue, singles_s, variant.interval_s)
            return Found([_waited_ms(job) for job in jobs], 1 / variant.interval_s, 0.0, 0.0)
        answers = stage.folder / "answers"
        with _file(stage, answers, QUICK_LINES if quick else LINES, variant.admitted > 0):
            began, began_s = count_lines(answers), time.monotonic()
            time.sleep(measured_s)
            before, before_s = count_lines(answers), time.monotonic()
            if variant.interval_s:
                jobs = _one_by_one(queue, singles_s, variant.interval_s)
                ended = len(jobs)
            else:
                jobs, ended = [], _continuously(stage, queue, measured_s)
            after, after_s = count_lines(answers), time.monotonic()
            waits = [_waited_ms(job) for job in jobs]
    took_s = after_s - before_s
    return Found(waits, ended / took_s, (before - began) / (before_s - began_s), (after - before) / took_s)


@contextmanager
def _staged(variant: Variant) -> Iterator[tuple[Stage, MiraQueue]]:
    """Start workers as a user does, and run one job."""
    limits: dict[str, Any] = {"concurrency": variant.admitted} if variant.admitted else {}
    configured: dict[str, Any] = {"max_in_flight": variant.admitted} if variant.admitted else {}
    with Stage(latency_s=variant.latency_s, **limits) as stage:
        settings = stage.settings(log_format="json", **configured)
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
def _file(stage: Stage, answers: Path, lines: int, is_configured: bool) -> Iterator[None]:
    """Run a file in the background. If no limits are configured, enough of them is learned."""
    path = write_input(stage.folder / "input.jsonl", lines)
    arguments = ["--workers", "0", "--output", str(answers)]
    run = stage.keep(start_run(path, stage.api.url, *arguments, redis_url=stage.redis_url))
    enough = 100 if is_configured else 500
    wait_until("the file is in progress", lambda: answers.exists() and count_lines(answers) >= enough, START_TIMEOUT_S)
    yield
    if run.poll() is not None:
        raise RuntimeError("the file was finished before the single jobs")
    # SIGKILL: the remaining lines are not needed.
    for pid in reversed(machine.tree(run.pid)):
        os.kill(pid, 9)


def _one_by_one(queue: MiraQueue, seconds: float, interval_s: float) -> list[Job]:
    jobs = []
    count = max(10, round(seconds / interval_s))
    began_s = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began_s + number * interval_s - time.monotonic()))
        jobs.append(queue.enqueue([{"role": "user", "content": f"A single question, {number}"}]))
    return jobs


def _continuously(stage: Stage, queue: MiraQueue, seconds: float) -> int:
    """Keep single jobs queued for this time. Return how many were started."""
    accepted = waiting = 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        waiting = int(stage.redis.zcard(names.queued_key(queue.accounts.current.id, Lane.NORMAL)))
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
