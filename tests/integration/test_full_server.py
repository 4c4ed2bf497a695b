"""A server whose memory is full: new jobs are rejected while accepted ones still finish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mira_queue import Job, MiraQueue, QueueUnavailable
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess

MIB = 1024 * 1024
FILL = "x" * 20_000


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
