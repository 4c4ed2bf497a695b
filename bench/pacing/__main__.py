"""Command line of the pacing benchmarks: `python -m bench.pacing --help`."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import structlog

from bench.pacing import first_run, ours, peer_process, simulated
from bench.pacing.figures import figures
from bench.pacing.scenarios import PICTURE, SCENARIOS, TRUE_SCALE, Scenario
from bench.pacing.servers import SERVERS
from bench.pacing.start_up import START_UP
from bench.pacing.table import MISSED, Row, markdown

GROUPS: Mapping[str, Sequence[Scenario]] = {"mira": SCENARIOS, "servers": SERVERS, "start-up": START_UP}
ALL = [scenario for group in GROUPS.values() for scenario in group]
LEGEND = f"""\
Shares are of the calls that the server could have admitted: "steady" in the second half, "with warm-up" from the first
call on. For other servers and for starts, it is the ideal time divided by the time taken. early: calls before a
Retry-After had passed. In parentheses: the target; {MISSED}: missed."""


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pacing",
        description="How close calls get to an account's unknown limits, compared with peers. Uses real processes.",
    )
    add = parser.add_argument
    add("--runs", type=int, default=3, help="runs of mira-queue; the table shows medians (default: 3)")
    add("--peer-runs", type=int, default=1, help="runs of each peer; 0 for none (default: 1)")
    add("--group", action="append", choices=GROUPS, help="mira, servers or start-up; repeatable (default: all)")
    add("--only", action="append", choices=[each.name for each in (*ALL, TRUE_SCALE)], help="repeatable")
    add("--parallel", type=int, default=1, help="concurrent runs; each needs a tenth of a core (default: 1)")
    add("--seconds", type=float, help="length of each run; ignored for scenarios with changes")
    add("--kill", type=int, metavar="SEED", help="kill workers at random; then only `early` has a target")
    add("--true-scale", action="store_true", help="one run: 60 per 60 s, 3 in flight, ten minutes")
    add("--simulated", action="store_true", help="in a world with its own clock: no processes, no peers, no waiting")
    add("--json", type=Path, metavar="FILE", help="write the figures of every run to this file")
    add("--draw", type=Path, metavar="FILE", help="draw one run as SVG instead of measuring; needs matplotlib")
    return parser


def main() -> int:
    chosen = options().parse_args()
    if chosen.draw:
        # Only drawing needs matplotlib. Its import takes a second, and it may not be installed.
        from bench.pacing.draw import draw  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="mq-") as folder:
            draw(ours.run_scenario(_chosen(chosen, [PICTURE])[0], Path(folder), chosen.kill), chosen.draw)
        return 0
    groups = [scenario for group in chosen.group or GROUPS for scenario in GROUPS[group]]
    scenarios = _chosen(chosen, [TRUE_SCALE] if chosen.true_scale else groups)
    if chosen.simulated:
        scenarios = [each for each in scenarios if simulated.can_run(each)]
        # Each needs all of a core.
        chosen.parallel = 1
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    rows: list[Row] = []
    with ThreadPoolExecutor(chosen.parallel) as pool:
        for row in [row for scenario in scenarios for row in begun(scenario, chosen, pool)]:
            rows.append(row())
            if chosen.json:
                chosen.json.write_text(json.dumps([_plain(each) for each in rows], indent=1), encoding="utf-8")
    print(markdown(rows))
    print(LEGEND)
    return int(any("early" in row.missed for row in rows))


def _chosen(chosen: argparse.Namespace, scenarios: list[Scenario]) -> list[Scenario]:
    """Apply --only and --seconds."""
    if chosen.only:
        scenarios = [each for each in (*ALL, TRUE_SCALE) if each.name in chosen.only]
    if chosen.seconds:
        scenarios = [each if each.changes else replace(each, seconds=chosen.seconds) for each in scenarios]
    return scenarios


def begun(scenario: Scenario, chosen: argparse.Namespace, pool: Executor) -> Iterator[Callable[[], Row]]:
    """Yield functions that wait for a row: first mira-queue, then the peers of the scenario."""
    targets = scenario.targets if chosen.kill is None else {"early": scenario.targets["early"]}
    numbers = range(1 if chosen.true_scale else chosen.runs)
    if chosen.simulated:
        yield _row(
            scenario, "mira-queue", targets, [pool.submit(_simulated, scenario, number + 1) for number in numbers]
        )
        return
    seeds = [None if chosen.kill is None else chosen.kill + number for number in numbers]
    yield _row(scenario, "mira-queue", targets, [pool.submit(_ours, scenario, seed) for seed in seeds])
    if scenario.peers_concurrency is None or chosen.kill is not None:
        return
    for peer in peer_process.PEERS:
        if not peer.is_installed:
            print(f"{peer.title}: not installed (the extra `bench` has it)", file=sys.stderr)
        elif chosen.peer_runs:
            runs = [pool.submit(_theirs, scenario, peer) for _ in range(chosen.peer_runs)]
            yield _row(scenario, peer.title, {}, runs)


def _row(
    scenario: Scenario, who: str, targets: Mapping[str, float], runs: Sequence[Future[dict[str, float]]]
) -> Callable[[], Row]:
    return lambda: Row(scenario, who, [run.result() for run in runs], targets)


def _ours(scenario: Scenario, seed: int | None) -> dict[str, float]:
    if scenario.lines:
        return _printed(scenario, first_run.figures(scenario), "mira-queue")
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        run = ours.run_scenario(scenario, Path(folder), seed).run
    return _printed(scenario, figures(run), "mira-queue", f"{len(run.calls)} calls, {run.kills} kills")


def _simulated(scenario: Scenario, seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        run = simulated.run_scenario(scenario, Path(folder), seed)
    return _printed(scenario, figures(run), "mira-queue", f"{len(run.calls)} calls")


def _theirs(scenario: Scenario, peer: peer_process.Peer) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        run = peer_process.run_scenario(scenario, peer, Path(folder))
    return _printed(scenario, figures(run), peer.title, f"{len(run.calls)} calls")


def _printed(scenario: Scenario, found: dict[str, float], who: str, more: str = "") -> dict[str, float]:
    """Print the figures of a run on standard error, because medians hide the spread."""
    shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(found.items()))
    load = os.getloadavg()[0]
    print(
        f"{scenario.name} {who}: {shown}  {more}  load {load:.1f}",
        file=sys.stderr,
        flush=True,
    )
    return found


def _plain(row: Row) -> dict[str, object]:
    return {
        "scenario": row.scenario.name, "who": row.who, "runs": row.runs, "medians": row.medians,
        "targets": row.targets, "missed": row.missed,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
