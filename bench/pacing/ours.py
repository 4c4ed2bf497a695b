"""One run of mira-queue: an embedded server, workers as a user starts them, and no learned limits."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.pacing import api
from bench.pacing.figures import Run
from bench.pacing.kills import Kills
from bench.pacing.scenarios import Scenario
from mira_queue import Job, JobState, MiraQueue
from tests.support.queue_process import API_KEY, QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess

# The test workers' quick settings are removed, so that the defaults apply.
DEFAULTS = dict.fromkeys(QUICK, None)


@dataclass(frozen=True, slots=True)
class LoggedRun:
    """A run and the log lines of its workers."""

    run: Run
    log: list[dict[str, Any]]
    began_s: float  # wall clock when the simulator started


def run_scenario(scenario: Scenario, folder: Path, kill_seed: int | None = None) -> LoggedRun:
    with ExitStack() as stack:
        simulator = stack.enter_context(api.start(scenario))
        settings: dict[str, Any] = {
            **DEFAULTS, "api_key": API_KEY, "log_format": "json", "api_base": simulator.url,
            "state_dir": folder / "state", "concurrency": scenario.slots, **scenario.configured,
        }  # fmt: skip
        queue = stack.enter_context(MiraQueue(**{name: value for name, value in settings.items() if value is not None}))
        # The time of a run with a fixed number of calls must not include the time to enqueue them.
        jobs = queue.enqueue_many(_bodies(scenario)) if scenario.calls else []
        workers = [_start(folder, settings) for _ in range(scenario.processes)]
        kills = Kills(workers, lambda: _start(folder, settings), kill_seed)
        # SIGKILL instead of the grace period: the state is discarded.
        stack.callback(_end, workers)
        for worker in workers:
            worker.wait_ready()
        # Enqueued earlier, these jobs would give the first of several workers a lead.
        jobs = jobs or queue.enqueue_many(_bodies(scenario))
        began_s = _wall_clock_at_zero(simulator)
        run = api.observe(scenario, simulator, kills.maybe)
        shares = [len(worker.events("attempt", outcome="succeeded")) for worker in workers]
        lost = _attempts_lost(queue, jobs) if "attempts_lost" in scenario.targets else 0
        log = [line for path in folder.glob("worker-*.log") for line in _lines(path)]
    return LoggedRun(replace(run, shares=shares, attempts_lost=lost, kills=kills.done), log, began_s)


def _start(folder: Path, settings: dict[str, Any]) -> WorkerProcess:
    return WorkerProcess.start(folder, wait=False, **settings)


def _end(workers: Sequence[WorkerProcess]) -> None:
    for worker in workers:
        worker.kill()


def _bodies(scenario: Scenario) -> list[dict[str, Any]]:
    fields = {} if scenario.max_tokens is None else {"max_tokens": scenario.max_tokens}
    return [
        {"messages": [{"role": "user", "content": f"Question {number}"}], **fields}
        for number in range(api.jobs(scenario))
    ]


def _wall_clock_at_zero(simulator: SimulatorProcess) -> float:
    return time.time() - float(simulator.stats()["uptime_s"])


def _attempts_lost(queue: MiraQueue, jobs: Sequence[Job]) -> int:
    """Return the maximum number of attempts that a job lost. A successful attempt is not lost."""
    statuses = queue.ledger.statuses([job.id for job in jobs])
    return max(each.attempts - (each.state is JobState.SUCCEEDED) for each in statuses)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete log lines. A killed worker may have left a truncated one."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
