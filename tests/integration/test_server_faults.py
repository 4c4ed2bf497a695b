"""What befalls the queue's server and the way to it: nothing is lost, and everybody goes on by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mira_queue import Job, MiraQueue
from tests.support import redis_keys
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.redis_pair import PortServer, Wire
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PortServer]:
    with PortServer(tmp_path / "server") as server:
        yield server
        wait_until("no key is left behind", lambda: not redis_keys.leaked(server.client))


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
    with WorkerProcess.start(
        tmp_path, redis_url=wire.url, api_base=simulator.url, resend_after=1, lease=3, concurrency=1
    ) as worker:
        yield worker


def enqueue(queue: MiraQueue, *contents: str) -> list[Job]:
    return queue.enqueue_many([{"messages": [{"role": "user", "content": content}]} for content in contents])


def all_succeed(jobs: list[Job]) -> None:
    for job in jobs:
        job.result(TIMEOUT_S)


@pytest.mark.parametrize(("fault", "times"), [("reset", 4), ("blackhole", 2)])
def test_a_worker_goes_on_consuming_after_every_cut(
    fault: str, times: int, queue: MiraQueue, worker: WorkerProcess, wire: Wire, simulator: SimulatorProcess
) -> None:
    # With one call at a time two messages are held: a worker that went on counting those of dead connections would
    # take no more after the second cut.
    for _ in range(times):
        before = enqueue(queue, *["[[sim:slow=0.3]]"] * 3)
        wait_until("a call is in flight", lambda: simulator.stats()["in_flight"])
        wire.reset() if fault == "reset" else wire.blackhole()
        wire.mend()
        after = enqueue(queue, *["after"] * 3)
        all_succeed(before + after)
