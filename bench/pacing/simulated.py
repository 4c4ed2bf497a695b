"""One run of a scenario in the paced world: the real scripts and the policy, with a clock of its own.

A run of a minute takes seconds, and a busy machine changes nothing. Processes, sockets and Celery are left out.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.pacing.figures import PROMPT_TOKENS, Call, Run
from bench.pacing.scenarios import Scenario
from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded.server import EmbeddedServer
from mira_queue.ledger.ledger import Ledger
from mira_queue.simulator.config import SimulatorConfig
from tests.support.ledger_steps import LIFE
from tests.support.paced_world import START_MS, World

STEP_S = 0.5
# The windows of some limiters begin at fixed times: each run begins at another moment of a window.
STAGGER_S = 1.7
# A multiple of every window.
CLOCK_S = 60.0
# The time that a call needs to the API, and its response needs back.
TRAVEL_S = (0.001, 0.004)


def can_run(scenario: Scenario) -> bool:
    """Return False for a scenario with parts that the world does not have: outages, files, configured texts."""
    return not scenario.lines and not scenario.configured and not any(each.outage for each in scenario.changes)


def run_scenario(
    scenario: Scenario, folder: Path, seed: int, travel_s: tuple[float, float] = TRAVEL_S, **more: Any
) -> Run:
    """Run the scenario until its calls are answered or its time has passed."""
    with EmbeddedServer(folder / "server") as url, connect(url) as client:
        start_ms = START_MS + round(1000 * STAGGER_S * seed)
        world = World(
            Ledger(client, result_ttl=LIFE), SimulatorConfig.model_validate(scenario.api), ConfiguredLimits(),
            processes=scenario.processes, slots=scenario.slots, seed=seed, travel_s=travel_s,
            start_ms=start_ms,
            call_tokens=(scenario.max_tokens or 0) + PROMPT_TOKENS, **more,
        )  # fmt: skip
        changed_s: list[float] = []
        stops_s = [0.0, *(change.at_s for change in scenario.changes), scenario.seconds]
        for number, (from_s, to_s) in enumerate(pairwise(stops_s)):
            if number:
                world.configure(**scenario.changes[number - 1].config)
                changed_s.append(from_s)
            while world.elapsed_s < to_s and not _is_finished(scenario, world):
                if scenario.calls:
                    world.open_jobs = scenario.calls - world.answered
                world.run(min(STEP_S, to_s - world.elapsed_s))
        # The API's clock, of which figures need where it is in a window.
        clock_s = start_ms / 1000 % CLOCK_S
        calls = [
            Call(
                clock_s + at_ms / 1000, *(("rate", None) if left_ms is None else ("admitted", clock_s + left_ms / 1000))
            )
            for (at_ms, _), left_ms in zip(world.calls, world.left_ms, strict=True)
        ]
        shares = [process.sent for process in world.fleet]
        return Run(
            scenario,
            calls,
            clock_s + world.elapsed_s,
            [clock_s + each for each in changed_s],
            world.early,
            shares=shares,
        )


def _is_finished(scenario: Scenario, world: World) -> bool:
    return scenario.calls is not None and world.answered >= scenario.calls
