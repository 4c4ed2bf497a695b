"""A worker dies while it stores an outcome in a result backend elsewhere: here, files. Rows of docs/states.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mira_queue import MiraQueue
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.crash_matrix import QUICK_RESEND, died, ended_once, enqueue, row, start_to_die
from tests.support.simulator_process import SimulatorProcess


@pytest.fixture
def backend(tmp_path: Path) -> str:
    (tmp_path / "results").mkdir()
    return f"file://{tmp_path}/results"


@pytest.fixture
def queue(settings: Settings, backend: str) -> Iterator[MiraQueue]:
    with MiraQueue(**settings.model_dump(exclude_unset=True) | {"result_backend": backend}) as client:
        yield client


@row("worker", "after `record_outcome`, before another result backend has the outcome")
def test_a_settled_outcome_is_stored_by_the_next_worker(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, backend: str
) -> None:
    _dies_and_is_mended(queue, start_worker, simulator, backend, CrashPoint.AFTER_RECORD_OUTCOME)


@row("worker", "after another result backend has the outcome, before `finish`")
def test_a_stored_outcome_is_stored_again_and_closed_by_the_next_worker(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, backend: str
) -> None:
    _dies_and_is_mended(queue, start_worker, simulator, backend, CrashPoint.AFTER_STORE)


def _dies_and_is_mended(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, backend: str, point: CrashPoint
) -> None:
    first = start_to_die(start_worker, point, result_backend=backend)
    job = enqueue(queue)
    died(first)
    assert job.status().state is JobState.RUNNING

    start_worker(result_backend=backend, **QUICK_RESEND)

    ended_once(queue, simulator, job, calls=1, unanswered=0)
