"""A server that refuses writes, changes its place or is killed: producers hear of it, workers keep what they hold."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import Job, MiraQueue
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.embedded import EmbeddedServer
from tests.support import redis_keys
from tests.support.crash_matrix import row
from tests.support.embedded_process import kill_server
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.redis_pair import PortServer, Wire
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60.0
Meddle = Callable[[PortServer, Path], None]


def _no_disk(server: PortServer, folder: Path) -> None:
    shutil.rmtree(folder)
    server.client.config_set("save", "3600 1")
    server.client.bgsave()
    wait_until("saving has failed", lambda: server.client.info("persistence")["rdb_last_bgsave_status"] == "err")


def _disk_again(server: PortServer, folder: Path) -> None:
    server.client.config_set("stop-writes-on-bgsave-error", "no")


def _no_replica(server: PortServer, _: Path) -> None:
    server.client.config_set("min-replicas-to-write", "1")


def _no_replica_needed(server: PortServer, _: Path) -> None:
    server.client.config_set("min-replicas-to-write", "0")


REFUSALS = {
    "MISCONF": (_no_disk, _disk_again, "MISCONF"),
    "NOREPLICAS": (_no_replica, _no_replica_needed, "NOREPLICAS"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "server"


@pytest.fixture
def server(folder: Path) -> Iterator[PortServer]:
    with PortServer(folder) as server:
        yield server


@pytest.fixture
def wire(server: PortServer) -> Iterator[Wire]:
    with Wire(server.port) as wire:
        yield wire


@pytest.fixture
def queue(wire: Wire, simulator: SimulatorProcess) -> Iterator[MiraQueue]:
    with MiraQueue(**{**QUICK, "redis_url": wire.url, "api_base": simulator.url}) as client:
        yield client


@pytest.fixture
def worker(wire: Wire, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[WorkerProcess]:
    options: dict[str, Any] = {"resend_after": 1, "lease": 3, "concurrency": 2}
    with WorkerProcess.start(tmp_path, redis_url=wire.url, api_base=simulator.url, **options) as worker:
        yield worker


def enqueue(queue: MiraQueue, *contents: str) -> list[Job]:
    return queue.enqueue_many([{"messages": [{"role": "user", "content": content}]} for content in contents])


def all_succeed(jobs: list[Job]) -> None:
    assert [job.result(TIMEOUT_S).unanswered_calls for job in jobs] == [0] * len(jobs)


@pytest.mark.parametrize(("refuse", "relent", "words"), REFUSALS.values(), ids=REFUSALS)
def test_refused_writes_lose_no_answer_and_no_job(
    refuse: Meddle,
    relent: Meddle,
    words: str,
    server: PortServer,
    folder: Path,
    queue: MiraQueue,
    worker: WorkerProcess,
    simulator: SimulatorProcess,
) -> None:
    jobs = enqueue(queue, *["[[sim:slow=0.5]]"] * 6)
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    refuse(server, folder)
    with pytest.raises(QueueUnavailable, match=words) as raised:
        enqueue(queue, "too much")
    assert "\n" not in str(raised.value)
    wait_until("the worker cannot store its answers", lambda: worker.events("server_unavailable"))
    relent(server, folder)

    all_succeed(jobs + enqueue(queue, "after"))
    assert simulator.stats()["calls"] == len(jobs) + 1
    wait_until("no key is left behind", lambda: not redis_keys.leaked(server.client))


def test_a_server_without_memory_rejects_new_jobs_and_takes_the_outcomes_of_accepted_ones(
    server: PortServer, queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    jobs = enqueue(queue, *["[[sim:slow=0.5]]"] * 6)
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    server.client.config_set("maxmemory", "1mb")
    with pytest.raises(QueueUnavailable, match="maxmemory") as raised:
        enqueue(queue, "too much")
    assert "\n" not in str(raised.value)
    all_succeed(jobs)
    assert not worker.events("server_unavailable")
    server.client.config_set("maxmemory", "0")

    all_succeed(enqueue(queue, "after"))
    assert simulator.stats()["calls"] == len(jobs) + 1
    wait_until("no key is left behind", lambda: not redis_keys.leaked(server.client))


def test_a_failover_to_a_replica_costs_no_job_and_no_call(
    server: PortServer,
    wire: Wire,
    queue: MiraQueue,
    worker: WorkerProcess,
    simulator: SimulatorProcess,
    tmp_path: Path,
) -> None:
    with PortServer(tmp_path / "replica") as replica:
        replica.follow(server)
        jobs = enqueue(queue, *["[[sim:slow=1]]"] * 4)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)
        wait_until("the replica has them all", lambda: replica.has_all_of(server))

        server.kill()
        wire.reset()
        wire.mend(replica.port)
        # Not yet promoted: it reads, and refuses to write.
        with pytest.raises(QueueUnavailable, match=r"(?i)read.?only"):
            enqueue(queue, "too soon")
        wait_until("the worker cannot write", lambda: worker.events("server_unavailable"))
        replica.promote()

        all_succeed(jobs + enqueue(queue, "after"))
        assert simulator.stats()["calls"] == len(jobs) + 1
        wait_until("no key is left behind", lambda: not redis_keys.leaked(replica.client))


@row("server", "anywhere, SIGKILL")
def test_an_embedded_server_that_is_killed_comes_back_with_every_job(
    short_folder: Path, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    state_dir = short_folder / "killed"
    options: dict[str, Any] = {"state_dir": state_dir, "api_base": simulator.url}
    with (
        MiraQueue(**{**QUICK, **options}) as queue,
        WorkerProcess.start(tmp_path, resend_after=1, lease=3, **options),
    ):
        jobs: list[Job] = []
        for _ in range(2):
            jobs += enqueue(queue, *["[[sim:slow=0.3]]"] * 10)
            wait_until("calls are in flight", lambda: simulator.stats()["in_flight"])
            kill_server(EmbeddedServer(state_dir))
            jobs += enqueue(queue, *["after"] * 5)

        all_succeed(jobs)
        assert simulator.stats()["calls"] == len(jobs)


def test_a_server_that_a_worker_has_started_again_is_not_kept_to_the_workers_core(
    short_folder: Path, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    server = EmbeddedServer(short_folder / "cores")
    with WorkerProcess.start(tmp_path, state_dir=short_folder / "cores", api_base=simulator.url) as worker:
        killed = server.running_pid()
        assert killed is not None
        kill_server(server)

        def another() -> int | None:
            now = server.running_pid()
            return now if now != killed else None

        started = wait_until("there is another", another)
        assert os.sched_getaffinity(started) == os.sched_getaffinity(0)
        # The last one takes it along.
        assert worker.stop() == 0
