"""Counts of a run whose disk becomes full: only lines that are in a file are counted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The answers are too large for the disk, and the errors have room. Then the disk is larger, and the rest is written.
FULL_DISK = """
import resource, sys
from pathlib import Path
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.runtime.crash_points import CrashPoints
from mira_producer.engine.result_writer import MAX_BYTES, Finished, ResultWriter
from mira_producer.jsonl.errors import StorageFull
from mira_producer.jsonl.request_line import OpenLine
from tests.unit.test_run_duplicates import planned

folder = Path(sys.argv[1])
plan = planned(folder, [f"{number}" for number in range(1, 7)])
writer = ResultWriter(plan, CrashPoints(None))

def answer(number, size):
    body = {"text": "x" * size}
    completion = Completion("", "stop", {"prompt_tokens": 1}, body)
    return Finished(f"job-{number}", OpenLine(number, f"id-{number}"), completion)

def error(number):
    return Finished(f"job-{number}", OpenLine(number, f"id-{number}"), Failure("bad_request", "no", 400))

def counts():
    stats = plan.stats
    written = [len((folder / name).read_bytes().splitlines()) for name in ("out", "errors")]
    assert [stats.succeeded, stats.failed] == written, (stats.succeeded, stats.failed, written)
    assert plan.left == 6 - sum(written)
    assert stats.usage.prompt_tokens == stats.succeeded
    return written

resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_BYTES + 10_000, resource.RLIM_INFINITY))
writer.write([answer(1, 100), error(2)])
rest = [answer(3, MAX_BYTES), error(4), answer(5, 20_000), answer(6, 100)]
try:
    writer.write(rest)
except StorageFull:
    print(counts())
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
writer.write(rest)
print(counts())
"""


def test_lines_that_a_full_disk_did_not_take_are_not_counted_and_stay_pending(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["[2, 1]", "[4, 2]"]
