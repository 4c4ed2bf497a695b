"""The clock of the queue's server jumps by an hour while workers run, as the clocks of virtual machines do."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import Job, MiraQueue
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from tests.support.clock_shim import ShiftedServer, shifted_server
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

HOUR_S = 3600
BOTH_WAYS = pytest.mark.parametrize("jump_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])


@pytest.fixture
def server(short_folder: Path) -> Iterator[ShiftedServer]:
    with shifted_server(short_folder / uuid.uuid4().hex[:8]) as found:
        yield found


@pytest.fixture
def own(server: ShiftedServer, simulator: SimulatorProcess) -> dict[str, Any]:
    return {"redis_url": server.url, "api_base": simulator.url}


@pytest.fixture
def own_queue(own: dict[str, Any]) -> Iterator[MiraQueue]:
    with MiraQueue(Settings(_env_file=None, **{**QUICK, **own})) as queue:
        yield queue


def enqueue(queue: MiraQueue, count: int) -> list[Job]:
    return queue.enqueue_many([{"messages": [{"role": "user", "content": f"question {n}"}]} for n in range(count)])


def all_answered(jobs: list[Job]) -> bool:
    return all(job.result(60).text for job in jobs)


def test_the_clock_of_the_server_can_be_moved(server: ShiftedServer) -> None:
    with connect(server.url) as client:
        before = client.time()[0]
        server.shift(HOUR_S)
        wait_until("the clock has moved", lambda: client.time()[0] - before > HOUR_S - 60)


@BOTH_WAYS
def test_calls_of_live_workers_are_not_repeated(
    jump_s: int,
    server: ShiftedServer,
    own: dict[str, Any],
    own_queue: MiraQueue,
    simulator: SimulatorProcess,
    tmp_path: Path,
) -> None:
    simulator.configure(latency_s=4)
    workers = [WorkerProcess.start(tmp_path, **own, concurrency=4, max_in_flight=8) for _ in range(2)]
    with workers[0], workers[1]:
        jobs = enqueue(own_queue, 4)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 4)
        server.shift(jump_s)

        assert all_answered(jobs)
        assert simulator.stats()["calls"] == 4
        simulator.configure(latency_s=0)
        # A crashed worker's job does not wait for an hour.
        assert all_answered(enqueue(own_queue, 4))


@BOTH_WAYS
def test_a_retry_after_is_honored_and_nothing_waits_longer(
    jump_s: int,
    server: ShiftedServer,
    own: dict[str, Any],
    own_queue: MiraQueue,
    simulator: SimulatorProcess,
    tmp_path: Path,
) -> None:
    # Calls that were sent together with the first 429 arrive within the grace.
    simulator.configure(rate=2, rate_window_s=6, early_grace_s=2)
    with WorkerProcess.start(tmp_path, **own, concurrency=4) as worker:
        jobs = enqueue(own_queue, 5)
        wait_until("the account waits", lambda: worker.events("breaker_opened"))
        end_s = time.monotonic() + 2.5
        server.shift(jump_s)
        wait_until("the grace is over", lambda: time.monotonic() > end_s)
        # A new job requests a permit immediately.
        jobs += enqueue(own_queue, 1)

        assert all_answered(jobs)
        assert simulator.stats()["early"] == 0
        assert worker.events("clock_jumped")


@BOTH_WAYS
def test_a_configured_rate_does_not_stall(
    jump_s: int,
    server: ShiftedServer,
    own: dict[str, Any],
    own_queue: MiraQueue,
    simulator: SimulatorProcess,
    tmp_path: Path,
) -> None:
    with WorkerProcess.start(tmp_path, **own, rate="10/1s") as worker:
        jobs = enqueue(own_queue, 40)
        wait_until("calls are made", lambda: simulator.stats()["calls"] > 10)
        server.shift(jump_s)

        assert all_answered(jobs)
        assert worker.events("clock_jumped")


def test_a_jump_back_while_no_worker_ran_stalls_nothing(
    server: ShiftedServer, own: dict[str, Any], own_queue: MiraQueue, tmp_path: Path
) -> None:
    with WorkerProcess.start(tmp_path, **own, rate="4/4s"):
        assert all_answered(enqueue(own_queue, 4))
    server.shift(-HOUR_S)

    with WorkerProcess.start(tmp_path, **own, rate="4/4s"):
        assert all_answered(enqueue(own_queue, 8))


def test_time_in_which_no_worker_ran_has_passed(
    server: ShiftedServer, own: dict[str, Any], own_queue: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(rate=1, rate_window_s=1, rate_retry_after_s=HOUR_S)
    with WorkerProcess.start(tmp_path, **own) as worker:
        jobs = enqueue(own_queue, 2)
        wait_until("the account waits for an hour", lambda: worker.events("breaker_opened"))
    # To the server, an hour without workers is the same.
    server.shift(HOUR_S + 10)
    simulator.configure(rate=None)

    with WorkerProcess.start(tmp_path, **own):
        assert all_answered(jobs)
