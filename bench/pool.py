"""Compare Celery's pools threads and gevent: one worker process, one simulator, alternating runs.

    python -m bench.pool [--jobs 1000] [--runs 5] [--slots 16] [--latency 0]

Needs gevent, which the `dev` extra installs. Prints medians of jobs per second (from the first job's acceptance to the
last outcome), of the worker's peak memory, and of the ratio threads : gevent.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mira_producer.processes import environment_of, start_simulator, stop

from mira_queue import MiraQueue, load_settings

KEY = "sk-mira-" + "0" * 40
GRACE = timedelta(seconds=10)
POOLS = ("threads", "gevent")


@dataclass(frozen=True, slots=True)
class Sample:
    jobs_per_s: float
    peak_mib: float


def measure(pool: str, jobs: int, slots: int, latency_s: float, folder: Path) -> Sample:
    """Run this many jobs on one worker with this pool."""
    simulator, url = start_simulator(["--latency", str(latency_s), "--no-request-counts"])
    settings = load_settings(
        api_key=KEY, api_base=url, state_dir=folder / "state", concurrency=slots, log_level="warning"
    )
    try:
        with MiraQueue(settings) as queue:
            group = f"bench-{time.monotonic_ns()}"
            bodies = ({"messages": [{"role": "user", "content": f"question {number}"}]} for number in range(jobs))
            environment = environment_of(settings, redis_url=queue.redis_url)
            worker = _start(pool, environment, folder / "worker.log")
            warm = queue.enqueue([{"role": "user", "content": "are you there?"}])
            warm.result(timeout=60)
            began_s = time.monotonic()
            queue.enqueue_many(bodies, group=group)
            ended = 0
            while ended < jobs:
                ended += len(queue.ledger.finished(group, timeout_s=1))
            elapsed_s = time.monotonic() - began_s
            peak_mib = _peak_mib(worker)
            stop(worker, GRACE)
            return Sample(jobs / elapsed_s, peak_mib)
    finally:
        stop(simulator, GRACE)


def _start(pool: str, environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start Celery's command, which patches the standard library for gevent before anything is imported."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "mira_worker.app", "worker", "--pool", pool, "--without-mingle"],
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )


def _peak_mib(process: subprocess.Popen[bytes]) -> float:
    """Return the peak memory from /proc (VmHWM, in KiB), or nan without /proc."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return float("nan")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    samples: dict[str, list[Sample]] = {pool: [] for pool in POOLS}
    for _ in range(options.runs):
        for pool in POOLS:
            with tempfile.TemporaryDirectory(prefix="mq-bench-") as folder:
                samples[pool].append(measure(pool, options.jobs, options.slots, options.latency, Path(folder)))
    print(f"{options.jobs} jobs, {options.slots} slots, latency {options.latency:g} s, medians of {options.runs}")
    for pool in POOLS:
        rates = sorted(sample.jobs_per_s for sample in samples[pool])
        memory = statistics.median(sample.peak_mib for sample in samples[pool])
        print(
            f"  {pool:8} {statistics.median(rates):7.0f} jobs/s ({rates[0]:.0f} to {rates[-1]:.0f}), {memory:.0f} MiB"
        )
    pairs = zip(samples["threads"], samples["gevent"], strict=True)
    ratio = statistics.median(threads.jobs_per_s / gevent.jobs_per_s for threads, gevent in pairs)
    print(f"  threads : gevent = {ratio:.2f}, median of the pairs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
