"""CPU time of waits, and time until they are woken: `python -m bench.waits`.

A thousand threads, or tasks, of one process wait for one job each. Another process finishes these jobs after 5 s, one
per millisecond. The same is measured with the previous code, which is in `previous.py`. The server is real.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from bench.waits import previous
from bench.waits.worker import work
from mira_queue import AsyncMiraQueue, Job, MiraQueue
from tests.support.queue_process import API_KEY

MAX_CPU_S = 0.5
MAX_MEDIAN_MS = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one kind of wait: CPU time of the process, and ms from the end of a job to that of its wait."""

    kind: str
    cpu_s: float
    late_ms: Sequence[float]

    def __str__(self) -> str:
        ninety_ninth = quantiles(self.late_ms, n=100)[98]
        return f"{self.kind:24} {self.cpu_s:8.2f} {median(self.late_ms):10.1f} {ninety_ninth:10.1f}"


def in_threads(wait: Callable[[Job], object], jobs: Sequence[Job]) -> list[float]:
    """Return when the wait of each job ended."""
    ended_s = [0.0] * len(jobs)

    def run(place: int) -> None:
        wait(jobs[place])
        ended_s[place] = time.monotonic()

    threads = [threading.Thread(target=run, args=[place]) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended_s


def in_tasks(wait: Callable[[Job], Awaitable[object]], jobs: Sequence[Job]) -> list[float]:
    """Return when the wait of each job ended."""

    async def run(job: Job) -> float:
        await wait(job)
        return time.monotonic()

    async def all_waits() -> list[float]:
        return await asyncio.gather(*map(run, jobs))

    return asyncio.run(all_waits())


def measure(
    kind: str, url: str, jobs: int, answer_s: float, wait_for_all: Callable[[list[str]], list[float]]
) -> Figures:
    pipe, of_worker = multiprocessing.Pipe()
    worker = multiprocessing.get_context("spawn").Process(target=work, args=(url, jobs, answer_s, of_worker))
    worker.start()
    # Without this copy, the end of the worker is the end of the pipe.
    of_worker.close()
    job_ids = pipe.recv()
    began_cpu_s = time.process_time()
    pipe.send(time.monotonic())
    ended_s = wait_for_all(job_ids)
    cpu_s = time.process_time() - began_cpu_s
    late_ms = [(ended - finished) * 1000 for ended, finished in zip(ended_s, pipe.recv(), strict=True)]
    worker.join()
    return Figures(kind, cpu_s, late_ms)


def run(folder: Path, jobs: int, answer_s: float) -> list[Figures]:
    with MiraQueue(state_dir=folder / "state", api_key=API_KEY) as queue:
        of_tasks = AsyncMiraQueue(queue.settings)
        queue.ledger._client.connection_pool.max_connections = sys.maxsize

        def handles(job_ids: list[str]) -> list[Job]:
            return [queue.job(job_id) for job_id in job_ids]

        kinds: list[tuple[str, Callable[[list[str]], list[float]]]] = [
            ("threads", lambda ids: in_threads(lambda job: job.outcome(), handles(ids))),
            ("tasks", lambda ids: in_tasks(lambda job: of_tasks.job(job.id).outcome(), handles(ids))),
            ("threads, previous code", lambda ids: in_threads(lambda job: previous.wait(queue, job), handles(ids))),
            ("tasks, previous code", lambda ids: in_tasks(previous.wait_async, handles(ids))),
        ]
        figures = [measure(kind, queue.redis_url, jobs, answer_s, wait_for_all) for kind, wait_for_all in kinds]
        of_tasks.sync.close()
        return figures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.waits", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0, help="time until the first job is finished (default: 5)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        figures = run(Path(folder), options.jobs, options.seconds)
    print(f"{options.jobs:,} waits of {options.seconds:g} s")
    print(f"{'':24} {'CPU, s':>8} {'woken, ms':>10} {'99 %':>10}")
    for each in figures:
        print(each)
    is_good = all(each.cpu_s < MAX_CPU_S and median(each.late_ms) < MAX_MEDIAN_MS for each in figures[:2])
    print(f"target: under {MAX_CPU_S:g} s and {MAX_MEDIAN_MS:g} ms: {'met' if is_good else 'missed'}")
    return int(not is_good)


if __name__ == "__main__":
    sys.exit(main())
