"""`python -m bench.pacing`: see --help."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from bench.pacing import others, ours
from bench.pacing.figures import Run, figures
from bench.pacing.scenarios import PICTURE, SCENARIOS, TRUE_SCALE, Scenario
from bench.pacing.table import MISSED, Row, markdown

LEGEND = f"""\
Shares are of what the server could have admitted: steady in the second half, with warm-up from the first call on.
early: calls before a Retry-After had passed. In brackets: the bar; {MISSED}: not reached."""


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.pacing",
        description="How near the account's limit we get, without being told it, beside others. Real processes.",
    )
    add = parser.add_argument
    add("--runs", type=int, default=3, help="runs of ours, of which the medians are shown (default: 3)")
    add("--peer-runs", type=int, default=1, help="runs of each peer; 0: without peers (default: 1)")
    add("--only", action="append", choices=[each.name for each in (*SCENARIOS, TRUE_SCALE)], help="several times")
    add("--parallel", type=int, default=1, help="runs at the same time; each needs a tenth of a core (default: 1)")
    add("--seconds", type=float, help="length of each run, instead of its own; not for those with changes")
    add("--kill", type=int, metavar="SEED", help="kill workers meanwhile: only the zeros are bars then")
    add("--true-scale", action="store_true", help="once: 60 in 60 s, 3 in flight, for ten minutes")
    add("--json", type=Path, metavar="FILE", help="write every run's figures there")
    add("--draw", type=Path, metavar="FILE", help="draw a run (SVG) and measure nothing; needs matplotlib")
    return parser


def main() -> int:
    chosen = options().parse_args()
    if chosen.draw:
        # Only drawing needs matplotlib, which takes a second to import and may not be installed.
        from bench.pacing.draw import draw  # noqa: PLC0415

        with tempfile.TemporaryDirectory(prefix="mq-") as folder:
            draw(ours.live(_chosen(chosen, [PICTURE])[0], Path(folder), chosen.kill), chosen.draw)
        return 0
    scenarios = _chosen(chosen, [TRUE_SCALE] if chosen.true_scale else list(SCENARIOS))
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
        scenarios = [each for each in (*SCENARIOS, TRUE_SCALE) if each.name in chosen.only]
    if chosen.seconds:
        scenarios = [each if each.changes else replace(each, seconds=chosen.seconds) for each in scenarios]
    return scenarios


def begun(scenario: Scenario, chosen: argparse.Namespace, pool: Executor) -> Iterator[Callable[[], Row]]:
    """Rows to wait for: ours first, then the peers that have a part in it."""
    bars = scenario.bars if chosen.kill is None else {"early": scenario.bars["early"]}
    numbers = range(1 if chosen.true_scale else chosen.runs)
    seeds = [None if chosen.kill is None else chosen.kill + number for number in numbers]
    yield _row(scenario, "mira-queue", bars, [pool.submit(_ours, scenario, seed) for seed in seeds])
    if scenario.peers_concurrency is None or chosen.kill is not None:
        return
    for peer in others.PEERS:
        if not peer.is_here:
            print(f"{peer.title}: not installed (the extra `bench` has it)", file=sys.stderr)
        elif chosen.peer_runs:
            runs = [pool.submit(_theirs, scenario, peer) for _ in range(chosen.peer_runs)]
            yield _row(scenario, peer.title, {}, runs)


def _row(
    scenario: Scenario, who: str, bars: Mapping[str, float], runs: Sequence[Future[dict[str, float]]]
) -> Callable[[], Row]:
    return lambda: Row(scenario, who, [run.result() for run in runs], bars)


def _ours(scenario: Scenario, seed: int | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        return _told(ours.live(scenario, Path(folder), seed).run, "mira-queue")


def _theirs(scenario: Scenario, peer: others.Peer) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        return _told(others.live(scenario, peer, Path(folder)), peer.title)


def _told(run: Run, who: str) -> dict[str, float]:
    """A line on standard error for each run: a table of medians hides how far they lie apart."""
    found = figures(run)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in sorted(found.items()))
    load = os.getloadavg()[0]
    print(
        f"{run.scenario.name} {who}: {shown}  calls {len(run.calls)}  crossed {run.crossed}  kills {run.kills}  "
        f"load {load:.1f}",
        file=sys.stderr,
        flush=True,
    )
    return found


def _plain(row: Row) -> dict[str, object]:
    return {
        "scenario": row.scenario.name, "who": row.who, "runs": row.runs, "medians": row.medians,
        "bars": row.bars, "missed": row.missed,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
