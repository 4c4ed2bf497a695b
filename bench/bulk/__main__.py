"""Command line of the benchmarks for files: `python -m bench.bulk --help`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import nullcontext
from tempfile import TemporaryDirectory

from bench.bulk import alongside, flat, submit, tail, throughput
from bench.bulk.peers_venv import peers_python
from bench.bulk.table import Table
from tests.chaos.child import clean_environment

NAMES = ("throughput", "submit", "flat", "tail", "alongside")


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bulk",
        description="Files of requests: throughput compared with peers, submitting, memory, the end of a file, and a "
        "single job alongside. Runs real processes. The exit code is 1 if a target is missed.",
    )
    add = parser.add_argument
    add("--runs", type=int, default=5, help="number of runs; the table shows medians (default: 5)")
    add("--only", action="append", choices=NAMES, help="repeatable")
    add("--quick", action="store_true", help="few jobs: a smoke run, not for figures")
    add(
        "--full",
        action="store_true",
        help="flat: also one run with 1,000,000 lines (10 to 25 minutes)",
    )
    add("--without-peers", action="store_true", help="throughput: without taskiq (otherwise installed if needed)")
    add("--slots", type=int, default=throughput.SLOTS, help="throughput: MIRA_CONCURRENCY (default: %(default)s)")
    add("--tasks", type=int, default=throughput.TASKS, help="throughput: taskiq's --max-async-tasks")
    return parser


def main() -> int:
    chosen = options().parse_args()
    # On SIGTERM, stop every process that was started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # Ignore the user's settings and .env.
    environment = clean_environment()
    os.environ.clear()
    os.environ.update(environment)
    missed = False
    with TemporaryDirectory(prefix="mq-bench-") as folder:
        os.chdir(folder)
        for name in chosen.only or NAMES:
            table = measure(name, chosen)
            print(f"\n{table.printed()}", flush=True)
            missed |= table.is_missed
        os.chdir("/")
    return int(missed)


def measure(name: str, chosen: argparse.Namespace) -> Table:
    def with_peers() -> Table:
        with nullcontext() if chosen.without_peers else peers_python() as python:
            return throughput.table(chosen.runs, chosen.quick, python, chosen.slots, chosen.tasks)

    tables: dict[str, Callable[[], Table]] = {
        "throughput": with_peers,
        "submit": lambda: submit.table(chosen.runs, chosen.quick),
        "flat": lambda: flat.table(chosen.runs, chosen.quick, chosen.full),
        "tail": lambda: tail.table(chosen.runs, chosen.quick),
        "alongside": lambda: alongside.table(chosen.runs, chosen.quick),
    }
    return tables[name]()


if __name__ == "__main__":
    sys.exit(main())
