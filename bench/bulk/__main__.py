"""`python -m bench.bulk`: see --help."""

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
        description="Files of requests: throughput beside others, submitting, memory, the end of a file, a single job "
        "beside it. Real processes, a simulator, a server of each run's own. Ends with 1 when a bar is missed.",
    )
    add = parser.add_argument
    add("--runs", type=int, default=5, help="of which the medians are shown (default: 5)")
    add("--only", action="append", choices=NAMES, help="several times")
    add("--quick", action="store_true", help="fewer jobs: to see that it works, not for figures")
    add(
        "--full",
        action="store_true",
        help="flat: with 1,000,000 lines, too, once (10 to 25 minutes)",
    )
    add("--without-peers", action="store_true", help="throughput: without taskiq, which is installed if needed")
    add("--slots", type=int, default=throughput.SLOTS, help="throughput: MIRA_CONCURRENCY (default: %(default)s)")
    add("--tasks", type=int, default=throughput.TASKS, help="throughput: taskiq's --max-async-tasks")
    return parser


def main() -> int:
    chosen = options().parse_args()
    # Everything that is started ends with us, whoever ends us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # What is set for real work stays out of it, and so does a .env.
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
