"""Simulated API of one run. It logs calls, and its limits change as the scenario says."""

from __future__ import annotations

import time
from collections.abc import Callable

from bench.pacing.figures import Call, Run, best_by_rate
from bench.pacing.scenarios import OUTAGE_S, Scenario
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

# Additional jobs: some wait for their countdown, and the workers must never run out of jobs.
SPARE_JOBS = 400
POLL_EVERY_S = 0.02


def start(scenario: Scenario) -> SimulatorProcess:
    return SimulatorProcess.start(log_calls=True, count_requests=False, **scenario.api)


def jobs(scenario: Scenario) -> int:
    """Return the number of jobs that keep the account busy until the end, at any limit of the scenario."""
    if scenario.calls:
        return scenario.calls
    steps = [scenario.api, *(change.config for change in scenario.changes if change.config)]
    if scenario.bound == "rate":
        most = max(step["rate"] for step in steps)
        return best_by_rate([(0.0, most)], scenario.window_s, scenario.seconds) + SPARE_JOBS
    latency = scenario.api["latency_s"]
    least_s = latency[0] if isinstance(latency, tuple) else latency
    most = max(step["concurrency"] for step in steps)
    return int(scenario.seconds / least_s * most) + SPARE_JOBS


def observe(scenario: Scenario, api: SimulatorProcess, meanwhile: Callable[[float], None]) -> Run:
    """Observe the run from its first call on. Call `meanwhile` repeatedly with the seconds since then."""
    wait_until("the first call", lambda: api.stats()["calls"] > 0)
    # The first call may be some seconds old, because all jobs had to be enqueued.
    first_s = min(call["came_s"] for call in api.calls())
    began_s = time.monotonic() - (api.stats()["uptime_s"] - first_s)
    changed_s: list[float] = []
    due = list(scenario.changes)
    while (now_s := time.monotonic() - began_s) < scenario.seconds and not _is_finished(scenario, api):
        if due and now_s >= due[0].at_s:
            change = due.pop(0)
            changed_s.append(api.stats()["uptime_s"])
            if change.outage:
                api.outage(OUTAGE_S, change.outage)
            else:
                api.configure(**change.config)
        meanwhile(now_s)
        time.sleep(POLL_EVERY_S)
    stats = api.stats()
    calls = sorted((Call(**call) for call in api.calls()), key=lambda call: call.came_s)
    # Skip calls that arrived after the counts were read.
    calls = [call for call in calls if call.came_s <= stats["uptime_s"]]
    return Run(scenario, calls, stats["uptime_s"], changed_s, stats["early"], stats["crossed"])


def _is_finished(scenario: Scenario, api: SimulatorProcess) -> bool:
    return scenario.calls is not None and api.stats()["answered"] >= scenario.calls
