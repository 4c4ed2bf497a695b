"""Three days with an exhausted daily quota: `python -m bench.long_waits`.

The account answers a few calls per day. It rate-limits all others with a Retry-After of one hour while thousands of
jobs wait. Time is scaled (an hour takes a second). Server, simulator, and worker are real. At the end the quota is
lifted, and every job must be answered exactly once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mira_queue import MiraQueue
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

HOURS_A_DAY = 24
GROUP = "long-waits"
# After these jobs, the worker has created all objects that it creates once.
WARM_UP_JOBS = 20
DRAIN_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts until the quota was lifted; failed, duplicated, and missing answers until the end.

    `mib` is the worker's resident memory after its first jobs and after each day.
    """

    jobs: int
    hours: float
    answered_in_time: int
    refusals: int
    early_calls: int
    failed: int
    answered_twice: int
    unanswered: int
    mib: tuple[float, ...]


def measure(folder: Path, *, jobs: int, days: int, hour_s: float, quota: int, concurrency: int) -> Figures:
    """Simulate the days, then lift the quota. `quota` is in calls per day; `hour_s` is the length of an hour."""
    settings: dict[str, Any] = {"state_dir": folder / "state", "concurrency": concurrency, "log_level": "error"}
    with (
        SimulatorProcess.start(quota_retry_after_s=hour_s, day_s=hour_s * HOURS_A_DAY) as simulator,
        MiraQueue(**{**QUICK, **settings, "api_base": simulator.url}) as queue,
        WorkerProcess.start(folder, wait=False, api_base=simulator.url, **settings) as worker,
    ):
        _enqueue(queue, 0, WARM_UP_JOBS)
        _collect(queue, WARM_UP_JOBS)
        mib = [_resident_mib(worker.pid)]

        began_s = time.monotonic()
        simulator.configure(quota=quota)
        _enqueue(queue, WARM_UP_JOBS, jobs)
        for _ in range(days):
            time.sleep(HOURS_A_DAY * hour_s)
            mib.append(_resident_mib(worker.pid))
        hours = (time.monotonic() - began_s) / hour_s
        stats = simulator.stats()

        simulator.configure(quota=None)
        failed = _collect(queue, jobs)
        answers = simulator.requests()["by_content"].values()
        last = simulator.stats()
    return Figures(
        jobs=jobs,
        hours=hours,
        answered_in_time=stats["answered"] - WARM_UP_JOBS,
        refusals=stats["calls"] - stats["answered"],
        early_calls=last["early"],
        failed=failed,
        answered_twice=sum(each["answered"] > 1 for each in answers),
        unanswered=jobs + WARM_UP_JOBS - len(answers),
        mib=tuple(mib),
    )


def _enqueue(queue: MiraQueue, first: int, count: int) -> None:
    bodies = [{"messages": [{"role": "user", "content": f"Job {first + number}"}]} for number in range(count)]
    queue.enqueue_many(bodies, group=GROUP)


def _collect(queue: MiraQueue, count: int) -> int:
    """Wait until `count` jobs are finished. Return how many failed."""
    ended: list[str] = []

    def all_ended() -> bool:
        ended.extend(queue.ledger.finished(GROUP, timeout_s=1))
        return len(ended) >= count

    wait_until(f"{count} jobs are finished", all_ended, DRAIN_TIMEOUT_S)
    return sum(status.state != "succeeded" for status in queue.ledger.statuses(ended))


def _resident_mib(pid: int) -> float:
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(answer.stdout) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.long_waits", description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--hour", type=float, default=1.0, metavar="SECONDS", help="length of an hour (default: 1)")
    parser.add_argument("--quota", type=int, default=100, help="calls per day (default: 100)")
    parser.add_argument("--concurrency", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        found = measure(
            Path(folder),
            jobs=options.jobs,
            days=options.days,
            hour_s=options.hour,
            quota=options.quota,
            concurrency=options.concurrency,
        )
    print(f"jobs waiting                 {found.jobs:,}")
    print(f"hours, one Retry-After each  {found.hours:.0f}")
    print(f"answered within the quota    {found.answered_in_time}")
    print(f"rate-limited calls           {found.refusals} ({found.refusals / found.hours:.2f} per hour)")
    print(f"calls before a Retry-After   {found.early_calls}")
    print(f"jobs failed                  {found.failed}")
    print(f"answered twice, never        {found.answered_twice}, {found.unanswered}")
    print(
        f"worker's memory, MiB         {', '.join(f'{each:.1f}' for each in found.mib)} (at first, and after each day)"
    )
    return int(bool(found.early_calls or found.failed or found.answered_twice or found.unanswered))


if __name__ == "__main__":
    sys.exit(main())
