"""`mira-queue run` dies exactly here; the same command again mends it. Rows of the table in docs/states.md."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from mira_queue.contract.crash_point import CrashPoint
from tests.support.crash_matrix import row
from tests.support.run_process import ANSWERS, ERRORS, RunProcess, ids, read_lines, run_to_the_end, write_lines
from tests.support.simulator_process import SimulatorProcess

INPUT = "input.jsonl"
LINES = [{"custom_id": str(number), "prompt": f"Question {number}"} for number in range(5)]


@row("`mira-queue run`", "before it has written a line")
def test_answers_that_a_killed_run_had_not_written_are_written_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    _dies_and_is_mended(redis_url, simulator, tmp_path, CrashPoint.BEFORE_LINES)


@row("`mira-queue run`", "between writing a line and forgetting the job")
def test_lines_whose_jobs_a_killed_run_had_not_forgotten_are_not_written_again(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    _dies_and_is_mended(redis_url, simulator, tmp_path, CrashPoint.AFTER_LINES)


@row("`mira-queue run`", "going on, after the lines that the account had refused are taken out of the error file")
def test_refused_lines_that_a_killed_run_had_taken_out_are_run_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    write_lines(tmp_path / INPUT, LINES)
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url, "concurrency": 1}
    simulator.configure(balance_calls=2)
    assert run_to_the_end(tmp_path, INPUT, **settings).wait() == 3
    refused = len(read_lines(tmp_path / ERRORS))
    assert refused > 0
    simulator.configure(balance_calls=None)

    with RunProcess.start(tmp_path, INPUT, crash_at=CrashPoint.AFTER_TAKE_OUT, **settings) as run:
        assert run.wait() == -signal.SIGKILL, run.said()
        assert (len(read_lines(tmp_path / ANSWERS)), read_lines(tmp_path / ERRORS)) == (2, [])

    again = run_to_the_end(tmp_path, INPUT, **settings)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(LINES)
    assert simulator.stats()["calls"] == len(LINES) + refused


def _dies_and_is_mended(redis_url: str, simulator: SimulatorProcess, folder: Path, point: CrashPoint) -> None:
    write_lines(folder / INPUT, LINES)
    # One call at a time, so that the point is reached with some answers to write, and some still to come.
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url, "concurrency": 1}
    with RunProcess.start(folder, INPUT, crash_at=point, **settings) as run:
        assert run.wait() == -signal.SIGKILL, run.said()
        written = len(read_lines(folder / ANSWERS))
        assert written == 0 if point is CrashPoint.BEFORE_LINES else written > 0

    again = run_to_the_end(folder, INPUT, **settings)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(folder / ANSWERS)) == ids(LINES)
    assert simulator.stats()["calls"] == len(LINES)
