"""Check after all faults that every worker still takes jobs. The other workers would hide one that silently stopped."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos import workload
from tests.chaos.child import Child, clean_environment
from tests.chaos.options import ChaosOptions
from tests.chaos.processes import Processes
from tests.chaos.simulators import Simulators
from tests.chaos.system import System

# A worker takes up to three messages per slot. With this many jobs, no worker can take another worker's share.
JOBS_PER_SLOT = 4
PATIENCE_S = 45.0
POLL_EVERY_S = 0.1


def count_working_slots(
    options: ChaosOptions,
    system: System,
    env: Mapping[str, str],
    folder: Path,
    processes: Processes,
    simulators: Simulators,
) -> int:
    """Return how many slots work at the same time when there are more jobs than slots."""
    slots = options.slots
    arguments = {
        "seed": options.seed,
        "first": workload.LIVENESS_JOBS,
        "end": workload.LIVENESS_JOBS + slots * JOBS_PER_SLOT,
        "step": 1,
        "max-waiting": slots * JOBS_PER_SLOT,
        "journal": folder / "liveness.txt",
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    producer = Child("liveness producer", system.producer(*words), env, folder)
    simulators.configure(concurrency=None, rate=None, quota=None)
    if forget := system.forget_limits():
        # A limit that was learned from the last 429 would keep slots free.
        subprocess.run(
            forget,
            cwd=folder,
            env={**clean_environment(), **env},
            capture_output=True,
            timeout=PATIENCE_S,
            check=True,
        )
    producer.start()
    try:
        working = 0
        end_s = time.monotonic() + PATIENCE_S
        while working < slots and time.monotonic() < end_s:
            processes.tend()
            working = max(working, simulators.stats()["in_flight"])
            time.sleep(POLL_EVERY_S)
        return working
    finally:
        producer.kill()
