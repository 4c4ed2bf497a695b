"""How soon the end of an outage is noticed: `python -m bench.outages`.

Server, simulator, and worker are real, with default settings. The account has as many slots as calls in flight. An
outage begins when they are in use: every call gets a 503 or a 500, or connections are reset and rejected. The
table says how long after the end of the outage the first answer arrived, without the duration of the call itself.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mira_queue import JobState, MiraQueue
from tests.support.queue_process import API_KEY, QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

KINDS = ("503", "500", "refuse")
IN_FLIGHT = (3, 32, 200)
SECONDS = (1.0, 5.0, 60.0)
# Calls of different duration: some end, and others start, in each moment of an outage. If more than FULL_SPEED are in
# flight, calls take longer, so that one worker process can keep all slots in use.
CALL_S, FULL_SPEED = (0.2, 1.0), 32
TARGET_S = 2.0
PATIENCE_S = 120.0
# The test workers' quick settings are removed, so that the defaults apply.
DEFAULTS = dict.fromkeys(QUICK, None)


@dataclass(frozen=True, slots=True)
class Row:
    """One outage. `noticed_s` is the time from its end to the first answer, without the call."""

    kind: str
    in_flight: int
    seconds: float
    noticed_s: float
    opened: int  # times that faults opened the circuit breaker
    calls: int  # that arrived during the outage
    failed: int  # jobs

    @property
    def is_good(self) -> bool:
        return self.noticed_s <= TARGET_S and not self.failed


def measure(folder: Path, kind: str, in_flight: int, seconds: float) -> Row:
    call_s = [each * max(1.0, in_flight / FULL_SPEED) for each in CALL_S]
    settings: dict[str, Any] = {
        "api_key": API_KEY, "log_format": "json", "state_dir": folder / "state",
        "concurrency": in_flight, "max_in_flight": in_flight,
    }  # fmt: skip
    with (
        SimulatorProcess.start(latency_s=call_s, log_calls=True) as simulator,
        MiraQueue(**settings, api_base=simulator.url) as queue,
        WorkerProcess.start(folder, **{**DEFAULTS, **settings, "api_base": simulator.url}) as worker,
    ):
        # Enough that probes find a job that has not had a fault, and that some are left at the end.
        bodies = [_body(number) for number in range(8 * in_flight + 100)]
        jobs = queue.enqueue_many(bodies)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] >= 0.9 * in_flight, PATIENCE_S)
        began_s, ended_s = _outage(simulator, kind, seconds)
        answered = wait_until("a call is answered", lambda: _first_answer(simulator, ended_s), PATIENCE_S)
        states = [status.state for status in queue.ledger.statuses([job.id for job in jobs])]
        return Row(
            kind,
            in_flight,
            seconds,
            answered["came_s"] - ended_s,
            len(worker.events("breaker_opened", reason="faults")),
            sum(began_s < call["came_s"] < ended_s for call in simulator.calls()),
            states.count(JobState.FAILED),
        )


def _body(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"Question {number}"}]}


def _outage(simulator: SimulatorProcess, kind: str, seconds: float) -> tuple[float, float]:
    """Return the beginning and the end of an outage, in the simulator's time, when it has passed."""
    if kind == "500":
        simulator.configure(faults={kind: 1.0})
    began_s = simulator.stats()["uptime_s"]
    if kind != "500":
        simulator.outage(seconds, kind)
    wait_until("it has passed", lambda: simulator.stats()["uptime_s"] >= began_s + seconds, PATIENCE_S)
    if kind == "500":
        simulator.configure(faults={})
    wait_until("the port is open", lambda: simulator.stats()["outage"] is None, PATIENCE_S)
    return began_s, simulator.stats()["uptime_s"] if kind == "500" else began_s + seconds


def _first_answer(simulator: SimulatorProcess, ended_s: float) -> dict[str, Any] | None:
    """Return the call that was answered first after the outage."""
    calls = [call for call in simulator.calls() if call["came_s"] > ended_s and call["word"] == "admitted"]
    return min((call for call in calls if call["left_s"]), key=lambda call: float(call["left_s"]), default=None)


def table(rows: Sequence[Row]) -> str:
    lines = ["outage   lasts  in flight  first answer after its end  opened  calls in it  failed"]
    lines += [
        f"{row.kind:7} {row.seconds:4g} s  {row.in_flight:9}  {row.noticed_s:24.2f} s  {row.opened:6}"
        f"  {row.calls:11}  {row.failed:6}{'' if row.is_good else '  MISSED'}"
        for row in rows
    ]
    return "\n".join([*lines, f"target: {TARGET_S:g} s, and no failed job"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.outages", description=__doc__.partition("\n")[0])
    parser.add_argument("--kind", choices=KINDS, action="append", help="of the outage (default: all)")
    parser.add_argument("--in-flight", type=int, action="append", metavar="CALLS", help="(default: 3, 32, and 200)")
    parser.add_argument("--seconds", type=float, action="append", help="of the outage (default: 1, 5, and 60)")
    options = parser.parse_args()
    rows = []
    for seconds, kind, in_flight in product(
        options.seconds or SECONDS, options.kind or KINDS, options.in_flight or IN_FLIGHT
    ):
        with tempfile.TemporaryDirectory(prefix="mq-") as folder:
            rows.append(measure(Path(folder), kind, in_flight, seconds))
        print(f"{time.strftime('%H:%M:%S')} {rows[-1]}", file=sys.stderr, flush=True)
    print(table(rows))
    return int(not all(row.is_good for row in rows))


if __name__ == "__main__":
    sys.exit(main())
