"""Cost of the pacer on an account without limits: `python -m bench.pacing.overhead`.

One worker process runs the same jobs with and without the pacer on an API without latency. The runs alternate, so that
a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from mira_producer.processes import environment_of

from bench.bulk import machine
from bench.bulk.contenders import Ours
from bench.bulk.stage import Stage
from bench.bulk.table import progress
from mira_queue.contract.settings import Settings
from tests.support.waiting import wait_until

JOBS, WARM_UP_JOBS = 2000, 300
# Targets: share of the throughput that remains, and server time per request for permits.
MIN_LEFT, MAX_MS = 0.95, 0.15


class Unpaced(Ours):
    """The same worker without its pacer."""

    def __init__(self, stage: Stage, slots: int) -> None:
        super().__init__(stage, slots, processes=0)
        self.pids = [_start_unpaced(stage, stage.settings(concurrency=slots)).pid]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: throughput, and processor time per job."""

    jobs_per_s: float
    worker_cpu_us: float
    server_cpu_us: float


def measure(kind: type[Ours], slots: int, jobs: int, latency_s: float) -> Sample:
    with Stage(latency_s=latency_s) as stage:
        ours = kind(stage, slots)
        stage.wait_for_keys(ours.enqueue(WARM_UP_JOBS))
        for pid in ours.pids:
            machine.suspend(pid)
        keys = ours.enqueue(jobs)
        before = machine.cpu_s(ours.pids), machine.cpu_s([stage.server_pid])
        began_s = time.monotonic()
        for pid in ours.pids:
            machine.resume(pid)
        took_s = stage.wait_for_keys(keys) - began_s
        worker_s, server_s = (
            after - at_first
            for after, at_first in zip(
                (machine.cpu_s(ours.pids), machine.cpu_s([stage.server_pid])), before, strict=True
            )
        )
    return Sample(jobs / took_s, worker_s / jobs * 1e6, server_s / jobs * 1e6)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pacing.overhead", description=__doc__)
    parser.add_argument("--pairs", type=int, default=5, help="number of runs; the table shows medians (default: 5)")
    parser.add_argument("--jobs", type=int, default=JOBS)
    parser.add_argument("--slots", type=int, default=8, help="MIRA_CONCURRENCY (default: 8)")
    parser.add_argument("--latency", type=float, default=0.0, help="latency of the API in seconds (default: 0)")
    chosen = parser.parse_args()
    paced: list[Sample] = []
    unpaced: list[Sample] = []
    for number in range(chosen.pairs):
        # The order alternates, so that a machine that slows down does not always affect the same one.
        turns: Sequence[tuple[type[Ours], list[Sample]]] = [(Ours, paced), (Unpaced, unpaced)]
        for kind, samples in turns if number % 2 == 0 else reversed(turns):
            samples.append(measure(kind, chosen.slots, chosen.jobs, chosen.latency))
            progress(f"{'with' if samples is paced else 'without'} the pacer: {samples[-1].jobs_per_s:,.0f} jobs/s")
    for name, samples in (("with the pacer", paced), ("without it", unpaced)):
        print(
            f"{name:15} {statistics.median(each.jobs_per_s for each in samples):7,.0f} jobs/s, "
            f"{statistics.median(each.worker_cpu_us for each in samples):5,.0f} us of the worker and "
            f"{statistics.median(each.server_cpu_us for each in samples):4,.0f} us of the server per job"
        )
    left = [one.jobs_per_s / other.jobs_per_s for one, other in zip(paced, unpaced, strict=True)]
    median = statistics.median(left)
    print(
        f"remaining throughput: {100 * median:.1f}% (pairs: {', '.join(f'{100 * each:.0f}%' for each in left)}; "
        f"target: {100 * MIN_LEFT:.0f}%) {'pass' if median >= MIN_LEFT else 'MISSED'}"
    )
    return int(median < MIN_LEFT)


def _start_unpaced(stage: Stage, settings: Settings) -> subprocess.Popen[bytes]:
    log = stage.folder / "unpaced.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.pacing.unpaced", "--parent-pipe"],
            env={**os.environ, **environment_of(settings)}, stdin=subprocess.PIPE, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
    stage.keep(process)
    wait_until("the worker without a pacer is ready", lambda: "ready" in log.read_text())
    return process


if __name__ == "__main__":
    sys.exit(main())
