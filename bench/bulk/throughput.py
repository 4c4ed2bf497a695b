"""Jobs per second of one worker process on an API without latency, compared with taskiq and stock Celery."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path

from bench.bulk import machine
from bench.bulk.contenders import Contender, ours, stock, taskiq
from bench.bulk.stage import Stage
from bench.bulk.table import Table, Target, progress, ratio

# mira-queue with default settings; each peer with the best of 2, 4, 8, 16, and 32 slots on this machine.
SLOTS = 32
STOCK_THREADS, STOCK_PROCESSES = 8, 4
TASKS = 32
JOBS, QUICK_JOBS = 3000, 100
WARM_UP_JOBS = 200
OVER_TASKIQ, OVER_STOCK = Target(1.2, "x taskiq"), Target(3, "x stock Celery")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. CPU times are per job: of all workers, and of the server."""

    jobs_per_s: float
    enqueued_per_s: float
    worker_cpu_us: float
    server_cpu_us: float


def measure(contender: Contender, jobs: int) -> Sample:
    """Fill the queue while the worker is suspended. Measure the time from its resumption to the last result."""
    with Stage() as stage:
        competitor = contender.start(stage)
        stage.wait_for_keys(competitor.enqueue(WARM_UP_JOBS))
        for pid in competitor.pids:
            machine.suspend(pid)
        began_s = time.monotonic()
        keys = competitor.enqueue(jobs)
        enqueued_s = time.monotonic() - began_s
        workers = [each for pid in competitor.pids for each in machine.tree(pid)]
        before = machine.cpu_s(workers), machine.cpu_s([stage.server_pid])
        began_s = time.monotonic()
        for pid in competitor.pids:
            machine.resume(pid)
        took_s = stage.wait_for_keys(keys) - began_s
        after = machine.cpu_s(workers), machine.cpu_s([stage.server_pid])
        answered = stage.api.stats()["answered"]
        if answered != jobs + WARM_UP_JOBS:
            raise RuntimeError(f"{contender.name}: {answered} answers for {jobs + WARM_UP_JOBS} jobs")
    worker_s, server_s = (b - a for a, b in zip(before, after, strict=True))
    return Sample(jobs / took_s, jobs / enqueued_s, worker_s / jobs * 1e6, server_s / jobs * 1e6)


def table(runs: int, quick: bool, peers_python: Path | None, slots: int = SLOTS, tasks: int = TASKS) -> Table:
    jobs = QUICK_JOBS if quick else JOBS
    us, two = ours(slots), ours(slots, processes=2)
    plain = stock("threads", STOCK_THREADS)
    others = [taskiq(peers_python, tasks)] if peers_python else []
    others.append(plain)
    if not quick:
        others += [stock("prefork", STOCK_PROCESSES), stock("threads", STOCK_THREADS, session=True)]
    samples: dict[str, list[Sample]] = {}
    for _ in range(runs):
        for contender in (us, *others, two):
            sample = measure(contender, jobs)
            progress(f"{contender.name}: {sample.jobs_per_s:,.0f} jobs/s")
            samples.setdefault(contender.name, []).append(sample)
    found = Table(
        f"throughput: {jobs:,} jobs, an API without latency, results stored, medians of {runs}",
        ("jobs/s", "from", "to", "worker CPU us/job", "server CPU us/job", "ours is", "by CPU"),
    )
    for name, each in samples.items():
        rates = [sample.jobs_per_s for sample in each]
        pairs = list(zip(samples[us.name], each, strict=True))
        faster = statistics.median(mine.jobs_per_s / theirs.jobs_per_s for mine, theirs in pairs)
        thriftier = statistics.median(theirs.worker_cpu_us / mine.worker_cpu_us for mine, theirs in pairs)
        target = OVER_TASKIQ if name.startswith("taskiq") else OVER_STOCK if name == plain.name else None
        found.add(
            name,
            round(statistics.median(rates)),
            round(min(rates)),
            round(max(rates)),
            round(statistics.median(sample.worker_cpu_us for sample in each)),
            round(statistics.median(sample.server_cpu_us for sample in each)),
            ratio(faster),
            ratio(thriftier),
            targets=[(target, faster)] if target else [],
        )
    if peers_python is None:
        found.notes.append("taskiq is not installed: its target was not measured")
    return found
