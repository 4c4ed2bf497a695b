"""With umask 0, commands and clients create nothing that other users can write to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.settings import Settings
from tests.support.batch_steps import at, end_supervisors
from tests.support.cli_process import Cli
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.run_process import write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


@pytest.fixture
def umask_0() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def writable_by_others(folder: Path) -> list[str]:
    """Return what other users can write to, with its mode. Sockets are in directories that they cannot enter."""
    found = []
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISSOCK(mode) and not stat.S_ISLNK(mode) and mode & 0o022:
            found.append(f"{path.relative_to(folder)} {stat.S_IMODE(mode):o}")
    return found


@pytest.mark.usefixtures("umask_0")
def test_a_run_with_a_report(short_folder: Path) -> None:
    folder = short_folder / "run"
    folder.mkdir(mode=0o700)
    source = write_lines(folder / "in.jsonl", [{"prompt": "Hello"}])
    source.chmod(0o644)

    done = Cli(folder, state_dir=folder / "a" / "b" / "state")(
        "run", "in.jsonl", "--simulate", "--ordered", "--report", "report.html"
    )

    assert done.code == 0, done.err
    assert (folder / "report.html").exists()
    assert list((folder / "a" / "b" / "state").rglob("valkey.log"))
    assert writable_by_others(folder) == []


@pytest.mark.usefixtures("umask_0")
def test_a_batch_of_a_client_and_its_supervisor_and_worker(short_folder: Path, simulator: SimulatorProcess) -> None:
    folder = short_folder / "batch"
    folder.mkdir(mode=0o700)
    source = write_lines(folder / "in.jsonl", [{"prompt": "Hello"}])
    source.chmod(0o644)
    own: dict[str, Any] = {"state_dir": folder / "a" / "state", "api_base": simulator.url}
    health_file = folder / "health"
    with (
        MiraQueue(Settings(_env_file=None, **{**QUICK, **own})) as queue,
        WorkerProcess.start(short_folder, health_file=health_file, **own),
    ):
        batch = queue.batches.submit(source)
        at(queue, batch.id, BatchStatus.COMPLETED)
        queue.batches.results(batch.id, folder / "results.jsonl")
        wait_until("the worker has touched its file", health_file.exists)
        found = writable_by_others(folder)
        end_supervisors(queue)

    assert found == []
    assert (folder / "a" / "state" / "supervisor.log").exists()


def test_a_state_directory_that_others_can_write_to_is_rejected_by_commands_and_clients(
    short_folder: Path, redis_url: str
) -> None:
    state_dir = short_folder / "open"
    state_dir.mkdir()
    state_dir.chmod(0o777)
    source = write_lines(short_folder / "in.jsonl", [{"prompt": "Hello"}])
    cli = Cli(short_folder, state_dir=state_dir)

    for arguments, settings in [
        (("enqueue", "Hello"), {}),
        (("run", str(source), "--simulate"), {}),
        (("submit", str(source)), {}),
        (("submit", str(source)), {"redis_url": redis_url}),
    ]:
        done = cli(*arguments, **settings)
        assert done.code != 0
        assert "chmod" in done.err
        assert done.err.count("\n") == 1
    assert list(state_dir.iterdir()) == []
