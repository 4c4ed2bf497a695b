"""`mira-queue run` killed in the middle, and the same command again: how long until it goes on, and is all there?

python -m tests.support.run_restart --lines 20000 --kill-at 6400
python -m tests.support.run_restart --with-workers
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.run_process import ANSWERS, BATCHES, ERRORS, OWN_KEYS, RunProcess, read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

INPUT = "input.jsonl"
# Of an API that answers quickly: many calls are in flight at any moment, and the run is not over before it is killed.
LATENCY_S = 0.05
PATIENCE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Restart:
    """What came of it. Seconds from the start of the second command; calls are those that the simulator counted."""

    lines: int
    answered_before: int
    first_new_answer_s: float
    stranded_jobs: int
    last_stranded_answer_s: float
    whole_s: float
    missing: int
    doubled: int
    calls: int
    repeated_calls: int
    left_in_ledger: int
    exit_code: int


def restart(
    folder: Path, *, lines: int, kill_at: int, concurrency: int, lease_s: float = 15.0, workers: bool = False
) -> Restart:
    """Kill a run with SIGKILL when `kill_at` lines are answered, run the same command to its end, and add up.

    With `workers` its workers are killed, too: nobody ends the calls that are in flight.

    Stranded are the lines whose call was begun and not written when the run died.
    """
    names = [f"line-{number}" for number in range(lines)]
    write_lines(folder / INPUT, ({"custom_id": name, "prompt": name} for name in names))
    answers = folder / ANSWERS
    with SimulatorProcess.start(latency_s=LATENCY_S) as simulator:
        settings: dict[str, Any] = {
            "api_base": simulator.url,
            "concurrency": concurrency,
            "lease": lease_s,
            "rescue_interval": 5,
        }
        with RunProcess.start(folder, INPUT, **settings) as first:
            wait_until("it is time to kill", lambda: _count(answers) >= kill_at, PATIENCE_S)
            first.kill(workers=workers)
            before = {line["custom_id"] for line in read_lines(answers)}
            called = set(simulator.requests()["by_content"])
            began_s = time.monotonic()
            with RunProcess.start(folder, INPUT, **settings) as second:
                wait_until("a new answer", lambda: _count(answers) > len(before), PATIENCE_S)
                first_s = time.monotonic() - began_s
                stranded = called - before
                wait_until(
                    "the stranded lines are answered",
                    lambda: stranded <= {line["custom_id"] for line in read_lines(answers)[len(before) :]},
                    PATIENCE_S,
                )
                stranded_s = time.monotonic() - began_s
                code = second.wait(PATIENCE_S)
                whole_s = time.monotonic() - began_s
        calls = simulator.requests()["by_content"]
    written = Counter(line["custom_id"] for name in (ANSWERS, ERRORS) for line in read_lines(folder / name))
    with EmbeddedServer(folder / "state") as url, connect(url) as client:
        # Without an end: what a run wrote and could not forget before it died expires by itself.
        left = sum(client.ttl(key) == -1 for key in client.keys("mira:*") if not key.startswith((BATCHES, *OWN_KEYS)))
    return Restart(
        lines=lines,
        answered_before=len(before),
        first_new_answer_s=round(first_s, 2),
        stranded_jobs=len(stranded),
        last_stranded_answer_s=round(stranded_s, 2),
        whole_s=round(whole_s, 2),
        missing=len(set(names) - set(written)),
        doubled=sum(count - 1 for count in written.values()),
        calls=sum(count["calls"] for count in calls.values()),
        repeated_calls=sum(count["calls"] - 1 for count in calls.values()),
        left_in_ledger=left,
        exit_code=code,
    )


def _count(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--kill-at", type=int, default=6_400)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--lease", type=float, default=15.0, help="MIRA_LEASE, seconds (default: %(default)s)")
    parser.add_argument("--with-workers", action="store_true", help="kill the run's workers as well")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mq-") as folder:
        result = restart(
            Path(folder),
            lines=options.lines,
            kill_at=options.kill_at,
            concurrency=options.concurrency,
            lease_s=options.lease,
            workers=options.with_workers,
        )
    for name, value in asdict(result).items():
        print(f"{name:24}{value:>12,}")


if __name__ == "__main__":
    main()
