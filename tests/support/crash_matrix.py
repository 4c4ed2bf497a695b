"""Helpers for the tests of the crash matrix: the row of a test, workers that crash on command, and accounting."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mira_queue import Job, MiraQueue
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Completion
from tests.conftest import StartWorker
from tests.support.queue_process import WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

DOCUMENT = Path(__file__).parents[2] / "docs" / "states.md"
HEADING = "## Crash matrix"

# A job of these tests ends in this group's list, once for each time that it ended.
GROUP = "crash-table"
# The pauses of real settings would only make the tests longer.
QUICK_RESEND = {"resend_after": 1}

Test = TypeVar("Test", bound=Callable[..., object])
Row = tuple[str, str]


def row(who: str, where: str) -> Callable[[Test], Test]:
    """This test is that row of the table: its first two columns."""

    def mark(test: Test) -> Test:
        test.crash_table_row = (who, where)  # type: ignore[attr-defined]
        return test

    return mark


def rows_of_the_document() -> list[Row]:
    """Return the first two columns of the crash matrix."""
    section = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]
    return [(row_cells[0], row_cells[1]) for row_cells in cells]


def enqueue(queue: MiraQueue, content: str = "Hello") -> Job:
    return queue.enqueue_many([{"messages": [{"role": "user", "content": content}]}], group=GROUP)[0]


def start_to_die(start_worker: StartWorker, point: CrashPoint, **options: object) -> WorkerProcess:
    return start_worker(crash_at=point, **{**QUICK_RESEND, **options})


def died(worker: WorkerProcess) -> None:
    code = worker.wait()
    assert code == -signal.SIGKILL, worker.log()


def ended_once(queue: MiraQueue, simulator: SimulatorProcess, job: Job, *, calls: int, unanswered: int) -> None:
    """It has its answer, has ended once, and the calls that the API saw are those that we say."""
    outcome = job.outcome(timeout=60)
    assert isinstance(outcome, Completion), outcome
    assert outcome.unanswered_calls == unanswered
    assert job.status().unanswered_calls == unanswered
    assert simulator.stats()["calls"] == calls
    assert ends(queue) == [job.id]


def ends(queue: MiraQueue) -> list[str]:
    """Every end that was stored since the last look."""
    found = queue.ledger.finished(GROUP, timeout_s=1)
    queue.ledger.drop_group(GROUP)
    return found


def wait_for_calls(simulator: SimulatorProcess, count: int) -> None:
    wait_until(f"{count} calls are in flight", lambda: simulator.stats()["in_flight"] == count)
