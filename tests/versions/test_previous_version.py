"""The previous version and this one share a server: workers of one run the jobs that producers of the other enqueue."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import JobState, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.job_filter import JobFilter
from tests.support.queue_process import OWN_COMMAND, QUICK, WorkerProcess, environment
from tests.support.simulator_process import SimulatorProcess

# The previous version: the first with queues of accounts, which had no schema version. Jobs of earlier commits have no
# account. A release replaces it by its tag.
PREVIOUS = "6decbac509f6d7fd04c7b6f3543b27372fb4e098"
ROOT = Path(__file__).parents[2]
PACKAGES = ("mira_queue", "producer", "worker")
PRODUCER = """
from mira_queue import MiraQueue
with MiraQueue() as queue:
    jobs = queue.enqueue_many([{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(5)])
    print(all(job.result(60).text for job in jobs))
"""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment in which Python imports the previous version, with the libraries of this one."""
    archive = subprocess.run(["git", "-C", ROOT, "archive", PREVIOUS, *PACKAGES], capture_output=True)
    if archive.returncode:
        pytest.skip(f"the previous version, {PREVIOUS[:10]}, is not in this checkout's history")
    folder = tmp_path_factory.mktemp("previous")
    # Not tarfile, whose safe filter is missing before Python 3.11.4.
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return {"PYTHONPATH": ":".join(str(folder / path) for path in ("", "producer", "worker"))}


@pytest.fixture
def own(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> dict[str, Any]:
    return {**QUICK, "redis_url": redis_url, "api_base": simulator.url, "state_dir": tmp_path / "state"}


def produced(own: dict[str, Any], folder: Path, python: dict[str, str]) -> str:
    """Enqueue jobs with one version, and return whether all have results, as text."""
    process = subprocess.run(
        [sys.executable, "-c", PRODUCER], env=environment(**own) | python, cwd=folder, capture_output=True, text=True
    )
    assert not process.stderr, process.stderr
    return process.stdout.strip()


def test_the_packages_of_the_previous_version_are_imported(previous: dict[str, str], tmp_path: Path) -> None:
    code = "import mira_queue.ledger, mira_worker, mira_producer as p; print(mira_queue.__path__[0], p.__path__[0])"
    found = subprocess.run(
        [sys.executable, "-c", code], env=environment() | previous, cwd=tmp_path, capture_output=True, text=True
    )

    assert str(ROOT) not in found.stdout
    assert found.returncode == 0


def test_a_worker_of_the_previous_version_runs_the_jobs_of_this_one(
    previous: dict[str, str],
    own: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    queue: MiraQueue,
    redis_client: redis.Redis,
) -> None:
    for name, value in previous.items():
        monkeypatch.setenv(name, value)
    with WorkerProcess.start(tmp_path, OWN_COMMAND, **own):
        monkeypatch.undo()
        assert produced(own, tmp_path, {}) == "True"
    # It does not know the index of open jobs, and removes nothing from it. Readers compare an entry with the job.
    assert [job.state for job in queue.ledger.listed(JobFilter())] == [JobState.SUCCEEDED] * 5
    assert queue.ledger.listed(JobFilter(state=JobState.QUEUED)) == []
    redis_client.delete(names.listed_key(names.OPEN))


def test_a_worker_of_this_version_runs_the_jobs_of_the_previous_one(
    previous: dict[str, str], own: dict[str, Any], tmp_path: Path
) -> None:
    with WorkerProcess.start(tmp_path, OWN_COMMAND, **own):
        assert produced(own, tmp_path, previous) == "True"
