"""Calls that start after a command: `python -m bench.commands`.

Server, simulator, worker, and `mira-queue` are real. A file of 1,000 lines runs, with 3 or 32 calls of 5 s in flight,
while the worker has claimed more jobs. Then the batch is paused or cancelled, the run is interrupted, its deadline
passes, its budget is used up, or the account or one of its models is rejected. The table counts the calls that started
more than a second later. While the file runs, each poll of its status is compared with the simulator's counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from mira_queue import MiraQueue
from mira_queue.contract.batch import Batch
from mira_queue.contract.errors import BatchNotFound
from mira_queue.ledger.connection import connect
from tests.support.batch_steps import end_supervisors
from tests.support.cli_process import Cli
from tests.support.queue_process import API_KEY, QUICK, WorkerProcess
from tests.support.run_process import INPUT, RunProcess, prompts, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

LINES = 1_000
CALL_S = 5.0
IN_FLIGHT = (3, 32)
LATE_S = 1.0
# A supervisor writes its batch once per second, and reads announcements before that.
STATUS_LAG_S = 2.5
DEADLINE_S = 20
POLL_S = 0.2
PATIENCE_S = 120.0
# The worker claims this many jobs more than may be in flight.
AHEAD = 16
RUN_ENDS_S = 2.0
DEFAULTS = dict.fromkeys(QUICK, None)
OTHER_MODEL = "mira-pro"


@dataclass(frozen=True, slots=True)
class Row:
    """One command. `late` counts calls that started more than LATE_S after it."""

    command: str
    in_flight: int
    calls: int
    late: int
    most: int  # calls that the command allows after it, or rejected calls; -1: no bound
    polls: int
    wrong_polls: int

    @property
    def is_good(self) -> bool:
        return not self.late and not self.wrong_polls and self.most <= self.in_flight


@dataclass(slots=True)
class World:
    """Server, simulator, worker, and what has been observed."""

    folder: Path
    in_flight: int
    simulator: SimulatorProcess
    queue: MiraQueue
    stack: ExitStack
    call_s: float
    settings: dict[str, Any]
    answered: list[tuple[float, int]] = field(default_factory=list)  # at each poll: time, answers of the simulator
    rejected: list[tuple[float, int]] = field(default_factory=list)  # the same for 403s
    polls: int = 0
    wrong: list[str] = field(default_factory=list)

    def run(self, *options: str, source: str = INPUT, output: str = "answers.jsonl") -> RunProcess:
        process = RunProcess.start(
            self.folder, source, "--workers", "0", "--output", output, "--errors", f"errors-of-{output}", *options,
            files=False, **self.settings,
        )  # fmt: skip
        return self.stack.enter_context(process)

    def now_s(self) -> float:
        return float(self.simulator.stats()["uptime_s"])

    def wait_in_flight(self) -> None:
        wait_until("calls are in flight", lambda: self.simulator.stats()["in_flight"] >= self.in_flight, PATIENCE_S)

    def observe(self, batch_id: str, until: Callable[[], object]) -> None:
        """Poll the status until a condition holds, and then until no call is in flight."""
        end_s = time.monotonic() + PATIENCE_S
        while not until() or self.simulator.stats()["in_flight"]:
            if time.monotonic() > end_s:
                raise AssertionError(f"{batch_id} has not stopped within {PATIENCE_S:g} s")
            self.poll(batch_id)
            time.sleep(POLL_S)
        self.poll(batch_id)

    def poll(self, batch_id: str) -> Batch | None:
        """Compare the status of the batch with what the simulator has answered."""
        try:
            batch = self.queue.batches.get(batch_id)
        except BatchNotFound:
            return None
        stats, now_s = self.simulator.stats(), time.monotonic()
        self.rejected.append((now_s, stats["by_status"].get("403", 0)))
        self.answered.append((now_s, stats["answered"]))
        least = max((count for at_s, count in self.answered if at_s <= now_s - STATUS_LAG_S), default=0)
        self.polls += 1
        if not least <= batch.answered <= stats["answered"] or batch.total not in (0, LINES):
            self.wrong.append(f"{batch.answered} of {batch.total} answered; {least} to {stats['answered']} are true")
        return batch

    def late(self, since_s: float, word: str = "admitted") -> int:
        return sum(call["came_s"] > since_s + LATE_S and call["word"] == word for call in self.simulator.calls())


def paused(world: World) -> tuple[str, float, int]:
    return _commanded(world, "pause")


def cancelled(world: World) -> tuple[str, float, int]:
    return _commanded(world, "cancel")


def _commanded(world: World, command: str) -> tuple[str, float, int]:
    cli = Cli(world.folder, **world.settings)
    batch_id = cli("submit", INPUT, "--json").json["id"]
    world.stack.callback(end_supervisors, world.queue)
    world.wait_in_flight()
    world.poll(batch_id)
    assert cli(command, batch_id).code == 0
    since_s = world.now_s()

    def has_stopped() -> bool:
        batch = world.queue.batches.get(batch_id)
        return bool(batch.paused) or batch.status.is_final

    world.observe(batch_id, has_stopped)
    return batch_id, since_s, 0


def interrupted(world: World) -> tuple[str, float, int]:
    process = world.run()
    world.wait_in_flight()
    batch_id = process.batch_id()
    world.poll(batch_id)
    since_s = world.now_s()
    process.interrupt()
    world.observe(batch_id, lambda: not process.is_running)
    return batch_id, since_s, 0


def deadline_passed(world: World) -> tuple[str, float, int]:
    deadline_s = int(time.time()) + DEADLINE_S
    since_s = world.now_s() + deadline_s - time.time()
    process = world.run("--deadline", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(deadline_s)))
    world.observe(process.batch_id(), lambda: not process.is_running)
    return process.batch_id(), since_s, 0


def budget_used_up(world: World) -> tuple[str, float, int]:
    budget = world.in_flight + 1
    process = world.run("--max-requests", str(budget))
    world.observe(process.batch_id(), lambda: not process.is_running)
    return process.batch_id(), float("inf"), world.simulator.stats()["calls"] - budget


def account_rejected(world: World) -> tuple[str, float, int]:
    world.simulator.configure(balance_calls=world.in_flight)
    process = world.run()
    world.observe(process.batch_id(), lambda: not process.is_running)
    rejected = [call["came_s"] for call in world.simulator.calls() if call["word"] == "balance"]
    assert world.late(min(rejected), "balance") == 0
    return process.batch_id(), min(rejected), len(rejected)


def model_rejected(world: World) -> tuple[str, float, int]:
    """The other lines run; here, until all lines of the model are withdrawn and some seconds have passed."""
    world.simulator.configure(plans={"max": ["mira"]})
    process = world.run()

    def has_rejected_for(seconds: float) -> bool:
        first_s = next((at_s for at_s, count in world.rejected if count), None)
        return first_s is not None and time.monotonic() > first_s + seconds

    batch_id = process.batch_id()
    end_s = time.monotonic() + PATIENCE_S
    while not has_rejected_for(2 * world.call_s):
        assert time.monotonic() < end_s, "no call was rejected"
        world.poll(batch_id)
        time.sleep(POLL_S)
    process.interrupt()
    world.observe(batch_id, lambda: not process.is_running)
    first_s = next(at_s for at_s, count in world.rejected if count)
    in_time = max(count for at_s, count in world.rejected if at_s <= first_s + LATE_S)
    final = world.simulator.stats()["by_status"]["403"]
    assert final == in_time, f"{final - in_time} calls of the rejected model started late"
    return batch_id, float("inf"), final


COMMANDS = {
    "pause": paused,
    "cancel": cancelled,
    "ctrl-c": interrupted,
    "deadline": deadline_passed,
    "budget": budget_used_up,
    "402": account_rejected,
    "403": model_rejected,
}


def measure(folder: Path, command: str, in_flight: int, stack: ExitStack, call_s: float = CALL_S) -> Row:
    world = build(folder, in_flight, stack, call_s)
    lines = [line | ({"model": OTHER_MODEL} if command == "403" and at % 2 else {}) for at, line in enumerate(_lines())]
    write_lines(folder / INPUT, lines)
    _, since_s, most = COMMANDS[command](world)
    for each in world.wrong[:3]:
        print(f"wrong status: {each}", file=sys.stderr)
    calls = world.simulator.stats()["calls"]
    return Row(command, in_flight, calls, world.late(since_s), most, world.polls, len(world.wrong))


def interrupted_at_rest(folder: Path, in_flight: int, stack: ExitStack) -> tuple[float, int, int]:
    """Interrupt a run in an outage. Return the seconds until it ended, jobs that it left, and lines that were sent."""
    world = build(folder, in_flight, stack, 0.2)
    write_lines(folder / INPUT, _lines())
    world.simulator.configure(faults={"503": 1.0})
    process = world.run()
    wait_until("an outage is noticed", lambda: world.simulator.stats()["calls"] > in_flight, PATIENCE_S)
    wait_until("nothing is in flight", lambda: not world.simulator.stats()["in_flight"], PATIENCE_S)
    began_s = time.monotonic()
    process.interrupt()
    process.wait()
    took_s = time.monotonic() - began_s
    with connect(world.queue.redis_url) as client:
        left = sum(1 for _ in client.scan_iter("mira:job:*"))
    world.simulator.configure(faults={})
    world.simulator.reset()
    write_lines(folder / "next.jsonl", prompts(5, " of the next file"))
    assert world.run(source="next.jsonl", output="next-answers.jsonl").wait() == 0
    contents = world.simulator.requests()["by_content"]
    return took_s, left, sum("of the next file" not in content for content in contents)


def _lines() -> list[dict[str, Any]]:
    return prompts(LINES)


def build(folder: Path, in_flight: int, stack: ExitStack, call_s: float) -> World:
    simulator = stack.enter_context(SimulatorProcess.start(latency_s=call_s, log_calls=True))
    common: dict[str, Any] = {"api_key": API_KEY, "api_base": simulator.url, "state_dir": folder / "state"}
    settings: dict[str, Any] = {**DEFAULTS, **common}
    queue = stack.enter_context(MiraQueue(**common))
    worker = {**settings, "log_format": "json", "max_in_flight": in_flight, "concurrency": in_flight + AHEAD}
    stack.enter_context(WorkerProcess.start(folder, **worker))
    return World(folder, in_flight, simulator, queue, stack, call_s, settings)


def table(rows: Sequence[Row]) -> str:
    lines = ["command   in flight  calls  late  rejected or over  polls  wrong"]
    lines += [
        f"{row.command:8}  {row.in_flight:9}  {row.calls:5}  {row.late:4}  {row.most:16}  {row.polls:5}"
        f"  {row.wrong_polls:5}{'' if row.is_good else '  MISSED'}"
        for row in rows
    ]
    return "\n".join([*lines, "target: late and wrong 0; rejected calls, and calls over the budget, at most in flight"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.commands", description=__doc__.partition("\n")[0])
    parser.add_argument("--command", choices=[*COMMANDS, "at-rest"], action="append", help="(default: all)")
    parser.add_argument("--in-flight", type=int, action="append", metavar="CALLS", help="(default: 3 and 32)")
    parser.add_argument("--call", type=float, default=CALL_S, metavar="SECONDS", help="duration of a call (default: 5)")
    options = parser.parse_args()
    rows, at_rest = [], []
    for command, in_flight in product(options.command or [*COMMANDS, "at-rest"], options.in_flight or IN_FLIGHT):
        with tempfile.TemporaryDirectory(prefix="mq-") as folder, ExitStack() as stack:
            if command == "at-rest":
                at_rest.append((in_flight, *interrupted_at_rest(Path(folder), in_flight, stack)))
                print(f"{time.strftime('%H:%M:%S')} {at_rest[-1]}", file=sys.stderr, flush=True)
            else:
                rows.append(measure(Path(folder), command, in_flight, stack, options.call))
                print(f"{time.strftime('%H:%M:%S')} {rows[-1]}", file=sys.stderr, flush=True)
    print(table(rows))
    for in_flight, took_s, left, sent in at_rest:
        print(
            f"ctrl-c in an outage, {in_flight} slots: ended after {took_s:.2f} s (target {RUN_ENDS_S:g}), "
            f"{left} jobs left, {sent} of its lines sent by the next command"
        )
    good = all(row.is_good for row in rows)
    return int(not good or any(took_s > RUN_ENDS_S or left or sent for _, took_s, left, sent in at_rest))


if __name__ == "__main__":
    sys.exit(main())
