"""Time of `mira-queue run` with unknown limits, compared with the ideal: `python -m bench.pacing.first_run`.

The run starts as a new user starts it: no configuration, no server, no worker, no learned limits. The simulator has the
limits of `--simulate --simulator-options '--limits mira'`: 60 per 60 s, 3 in flight, no latency. The ideal client sends
each call at the first moment at which the account admits it.

With --latency 0.2, a call that is rate-limited as the fourth in flight counts toward the rate. The 300th line then does
not fit into the fifth window, and waits for the sixth.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.bulk.running import run_file
from bench.bulk.stage import body
from bench.pacing.scenarios import Scenario
from mira_queue.simulator.config import mira_limits
from tests.support.simulator_process import SimulatorProcess

RATE, WINDOW_S, IN_FLIGHT = 60, 60.0, 3
MOST = 1.08
NOTHING: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class FirstRun:
    """A run: its time from the command to its end, its calls, and those that came too early."""

    took_s: float
    calls: list[dict[str, Any]]
    early: int

    @property
    def refused(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["left_s"] is None]


def run_lines(lines: int, api: Mapping[str, Any], configured: Mapping[str, Any] = NOTHING) -> FirstRun:
    """Run a file of so many lines on a new account, with these settings."""
    variables = {f"MIRA_{name.upper()}": str(value) for name, value in configured.items()}
    with TemporaryDirectory(prefix="mq-") as folder:
        path = Path(folder) / "lines.jsonl"
        path.write_text("".join(json.dumps(body(number)) + "\n" for number in range(lines)), encoding="utf-8")
        with SimulatorProcess.start(log_calls=True, **api) as simulator:
            ran = run_file(path, simulator.url, **variables)
            return FirstRun(ran.took_s, simulator.calls(), simulator.stats()["early"])


def figures(scenario: Scenario) -> dict[str, float]:
    """Return the figures of a scenario with `lines`: took_s from the first call to the last answer.

    times_ideal is from the command to its end.
    """
    assert scenario.lines is not None
    assert scenario.ideal_s is not None
    ran = run_lines(scenario.lines, scenario.api, scenario.configured)
    left_s = [call["left_s"] for call in ran.calls if call["left_s"] is not None]
    return {
        "early": ran.early,
        "rate_limited": len(ran.refused) / len(ran.calls),
        "took_s": max(left_s) - min(call["came_s"] for call in ran.calls),
        "times_ideal": ran.took_s / scenario.ideal_s,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pacing.first_run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument(
        "--scale", type=float, default=1.0, help="scale of Mira's windows: 0.1 is 60 per 6 s (default: 1)"
    )
    parser.add_argument("--latency", type=float, default=0.0, help="latency of the API in seconds (default: 0)")
    chosen = parser.parse_args()
    # Whole windows, and then the remaining lines, three in flight.
    windows, last = divmod(chosen.lines - 1, RATE)
    ideal_s = windows * WINDOW_S * chosen.scale + -(-(last + 1) // IN_FLIGHT) * chosen.latency
    ran = run_lines(chosen.lines, {**mira_limits(chosen.scale), "latency_s": chosen.latency})
    came = sorted(call["came_s"] for call in ran.calls)
    answered_s = max(call["left_s"] for call in ran.calls if call["left_s"] is not None)
    refused = [f"{call['word']} after {call['came_s'] - came[0]:.1f} s" for call in ran.refused]
    share = ran.took_s / ideal_s
    print(
        f"{chosen.lines} lines: {ran.took_s:.1f} s from the command to its end, {answered_s - came[0]:.1f} s of them "
        f"from the first call to the last answer; ideal {ideal_s:.1f} s\n"
        f"{share:.3f} times the ideal (target: {MOST}) {'pass' if share <= MOST else 'MISSED'}; "
        f"refused: {', '.join(refused) or 'none'}; {ran.early} early"
    )
    return int(share > MOST or ran.early > 0)


if __name__ == "__main__":
    sys.exit(main())
