"""`mira-queue run` crashes exactly here, and the same command again recovers. Rows of the matrix in docs/states.md."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.commands import Cancel, Pause
from mira_queue.contract.crash_point import CrashPoint
from tests.support.crash_matrix import row
from tests.support.run_process import ANSWERS, ERRORS, RunProcess, ids, read_lines, run_to_the_end, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

INPUT = "input.jsonl"
LINES = [{"custom_id": str(number), "prompt": f"Question {number}"} for number in range(5)]


@row("`mira-queue run`", "before it has written a line")
def test_answers_that_a_killed_run_had_not_written_are_written_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    _crashes_and_recovers(redis_url, simulator, tmp_path, CrashPoint.BEFORE_LINES)


@row("`mira-queue run`", "between writing a line and deleting the job")
def test_lines_whose_jobs_a_killed_run_had_not_forgotten_are_not_written_again(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    _crashes_and_recovers(redis_url, simulator, tmp_path, CrashPoint.AFTER_LINES)


@row("`mira-queue run`", "resuming, after the lines that the account had rejected are removed from the error file")
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


@row("`mira-queue run`", "resuming with `--changed rerun`, after the old answers are removed from the output file")
def test_changed_lines_whose_answers_a_killed_run_had_removed_are_run_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    write_lines(tmp_path / INPUT, LINES)
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url}
    assert run_to_the_end(tmp_path, INPUT, **settings).wait() == 0
    write_lines(tmp_path / INPUT, [*LINES[:3], *({**line, "prompt": "Changed"} for line in LINES[3:])])

    with RunProcess.start(tmp_path, INPUT, "--changed", "rerun", crash_at=CrashPoint.AFTER_TAKE_OUT, **settings) as run:
        assert run.wait() == -signal.SIGKILL, run.said()
        assert ids(read_lines(tmp_path / ANSWERS)) == ids(LINES[:3])
        assert ids(read_lines(tmp_path / f"{ANSWERS}.replaced")) == ids(LINES[3:])

    again = run_to_the_end(tmp_path, INPUT, **settings)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(LINES)
    assert simulator.stats()["calls"] == len(LINES) + 2


@row("`mira-queue run`", "before it has seen a pause from another terminal")
def test_a_pause_that_a_killed_run_had_not_seen_is_older_than_the_next_run(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path, queue: MiraQueue
) -> None:
    run = _killed_in_the_middle(redis_url, simulator, tmp_path)
    queue.ledger.send_command(run.batch_id(), Pause())

    _completes(redis_url, simulator, tmp_path, queue)


@row("`mira-queue run`", "while it is paused by another terminal")
def test_a_run_that_is_killed_while_it_is_paused_is_resumed_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path, queue: MiraQueue
) -> None:
    write_lines(tmp_path / INPUT, LINES)
    simulator.configure(latency_s=3)
    with RunProcess.start(tmp_path, INPUT, redis_url=redis_url, api_base=simulator.url, concurrency=1) as run:
        wait_until("a line is answered", lambda: read_lines(tmp_path / ANSWERS))
        queue.batches.pause(run.batch_id())
        wait_until("it is paused", lambda: queue.ledger.batch(run.batch_id()).paused_by == "owner")
        run.kill()
    simulator.configure(latency_s=0)

    _completes(redis_url, simulator, tmp_path, queue)


@row("`mira-queue run`", "before it has seen a cancel from another terminal")
def test_a_cancel_that_a_killed_run_had_not_seen_is_carried_out_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path, queue: MiraQueue
) -> None:
    run = _killed_in_the_middle(redis_url, simulator, tmp_path)
    calls = simulator.stats()["calls"]
    queue.ledger.send_command(run.batch_id(), Cancel())

    _ends_cancelled(redis_url, simulator, tmp_path, queue)
    assert simulator.stats()["calls"] == calls


@row("`mira-queue run`", "during cancel, before its lines are written")
def test_a_cancel_whose_run_was_killed_before_it_had_written_is_finished_by_the_next(
    redis_url: str, simulator: SimulatorProcess, tmp_path: Path, queue: MiraQueue
) -> None:
    write_lines(tmp_path / INPUT, LINES)
    simulator.configure(latency_s=0.5)
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url, "concurrency": 1}
    with RunProcess.start(tmp_path, INPUT, crash_at=CrashPoint.AFTER_CANCEL, **settings) as run:
        wait_until("a line is answered", lambda: read_lines(tmp_path / ANSWERS))
        queue.batches.cancel(run.batch_id())
        assert run.wait() == -signal.SIGKILL, run.said()
    assert queue.ledger.batch(run.batch_id()).status is BatchStatus.CANCELLING

    _ends_cancelled(redis_url, simulator, tmp_path, queue)


def _killed_in_the_middle(redis_url: str, simulator: SimulatorProcess, folder: Path) -> RunProcess:
    """A run that was killed with its workers when one line was answered, and others were submitted."""
    write_lines(folder / INPUT, LINES)
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url, "concurrency": 1}
    simulator.configure(latency_s=0.5)
    with RunProcess.start(folder, INPUT, **settings) as run:
        wait_until("a line is answered", lambda: read_lines(folder / ANSWERS))
        run.kill(workers=True)
    simulator.configure(latency_s=0)
    return run


def _completes(redis_url: str, simulator: SimulatorProcess, folder: Path, queue: MiraQueue) -> None:
    again = run_to_the_end(folder, INPUT, redis_url=redis_url, api_base=simulator.url, lease=2, rescue_interval=1)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(folder / ANSWERS)) == ids(LINES)
    assert queue.ledger.batch(again.batch_id()).status is BatchStatus.COMPLETED


def _ends_cancelled(redis_url: str, simulator: SimulatorProcess, folder: Path, queue: MiraQueue) -> None:
    again = run_to_the_end(folder, INPUT, redis_url=redis_url, api_base=simulator.url, grace=0)

    assert again.wait() == 1, again.said()
    answers, errors = read_lines(folder / ANSWERS), read_lines(folder / ERRORS)
    assert ids([*answers, *errors]) == ids(LINES)
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert queue.ledger.batch(again.batch_id()).status is BatchStatus.CANCELLED


def _crashes_and_recovers(redis_url: str, simulator: SimulatorProcess, folder: Path, point: CrashPoint) -> None:
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
