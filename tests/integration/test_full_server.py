"""A server whose memory is full: new jobs are rejected while accepted ones still finish."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import Job, MiraQueue, QueueUnavailable
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

MIB = 1024 * 1024
FILL = "x" * 20_000


@pytest.fixture
def installed_server(tmp_path: Path, short_folder: Path) -> Iterator[str]:
    """A Redis server of this machine: Debian's is older than the embedded one, and counts its memory differently."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not installed")
    socket = short_folder / "installed.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(tmp_path), "--appendonly", "yes", "--save", ""]
    server = subprocess.Popen([binary, *options], stdout=subprocess.DEVNULL)
    try:
        wait_until("the server responds", socket.exists)
        yield f"redis+socket://{socket}"
    finally:
        server.kill()
        server.wait()


def fill(queue: MiraQueue) -> list[Job]:
    """Enqueue jobs until they are rejected. Return those that were accepted."""
    jobs: list[Job] = []
    while len(jobs) < 5000:
        try:
            jobs += queue.enqueue_many([{"messages": [{"role": "user", "content": FILL}]}] * 5)
        except QueueUnavailable:
            return jobs
    raise AssertionError("the server was never full")


def test_jobs_that_were_accepted_before_the_memory_was_full_finish(
    short_folder: Path, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    with EmbeddedServer(short_folder / "full") as url, connect(url) as client:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"]) + 12 * MIB)
        own: dict[str, Any] = {"redis_url": url, "api_base": simulator.url}
        with MiraQueue(Settings(_env_file=None, **{**QUICK, **own})) as queue:
            jobs = fill(queue)
            memory = client.info("memory")
            assert memory["used_memory"] < 0.97 * memory["maxmemory"]

            with WorkerProcess.start(tmp_path, **own):
                assert [job.result(60).text != "" for job in jobs] == [True] * len(jobs)
                # The requests of finished jobs are gone, so there is room again.
                assert queue.enqueue([{"role": "user", "content": "Hello"}]).result(60).text
        client.config_set("maxmemory", 0)


def test_accepted_jobs_finish_on_a_server_that_other_data_has_filled(
    installed_server: str, tmp_path: Path, simulator: SimulatorProcess
) -> None:
    own: dict[str, Any] = {"redis_url": installed_server, "api_base": simulator.url}
    with (
        redis.Redis(unix_socket_path=installed_server.removeprefix("redis+socket://")) as other_program,
        MiraQueue(Settings(_env_file=None, **{**QUICK, **own})) as queue,
    ):
        jobs = queue.enqueue_many([{"messages": [{"role": "user", "content": FILL}]}] * 100)
        # Jobs that have a fault need another message, too.
        simulator.configure(faults={"503": 0.2})
        other_program.config_set("maxmemory", int(other_program.info("memory")["used_memory"]) - MIB)
        with pytest.raises(redis.OutOfMemoryError):
            other_program.set("other", "data")
        with pytest.raises(QueueUnavailable):
            queue.enqueue([{"role": "user", "content": "Hello"}])

        with WorkerProcess.start(tmp_path, **own, max_attempts=20):
            assert [job.result(60).text != "" for job in jobs] == [True] * len(jobs)
