"""After all the blows: does every worker still take jobs? One that has silently stopped is hidden by the others."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tests.chaos import workload
from tests.chaos.cast import Cast
from tests.chaos.child import Child
from tests.chaos.options import ChaosOptions
from tests.chaos.system import System
from tests.support.simulator_process import SimulatorProcess

# A worker takes up to three messages for each of its slots; with this many, none can take those of another.
JOBS_PER_SLOT = 4
PATIENCE_S = 45.0
LOOK_EVERY_S = 0.1


def call_the_roll(
    options: ChaosOptions,
    system: System,
    env: Mapping[str, str],
    folder: Path,
    cast: Cast,
    simulator: SimulatorProcess,
) -> int:
    """How many of the workers' slots are at work at once when there is more to do than all of them can."""
    slots = options.workers * options.concurrency
    told = {
        "seed": options.seed,
        "first": workload.ROLL_CALL,
        "end": workload.ROLL_CALL + slots * JOBS_PER_SLOT,
        "step": 1,
        "most-waiting": slots * JOBS_PER_SLOT,
        "journal": folder / "roll-call.txt",
    }
    orders = [word for name, value in told.items() for word in (f"--{name}", str(value))]
    caller = Child("roll call", system.producer(*orders), env, folder)
    simulator.configure(concurrency=None, rate=None, quota=None)
    caller.start()
    try:
        present = 0
        end_s = time.monotonic() + PATIENCE_S
        while present < slots and time.monotonic() < end_s:
            cast.tend()
            present = max(present, simulator.stats()["in_flight"])
            time.sleep(LOOK_EVERY_S)
        return present
    finally:
        caller.kill()
