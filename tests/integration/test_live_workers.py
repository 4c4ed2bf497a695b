"""Which workers are alive: what the ledger reports while they run, stop, and crash."""

from __future__ import annotations

import os
import socket

import redis

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.ledger.accounts import LiveWorker
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


def test_a_worker_is_listed_from_its_start_until_it_stops(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    job = queue.enqueue([{"role": "user", "content": "Hello"}])
    assert queue.ledger.live_workers() == []
    assert job.status().reason == "no worker is running"

    first, second = start_worker(), start_worker()
    name = socket.gethostname()
    wait_until("both are listed", lambda: len(queue.ledger.live_workers()) == 2)
    assert {worker.name for worker in queue.ledger.live_workers()} == {f"{first.pid}@{name}", f"{second.pid}@{name}"}
    assert len({worker.account for worker in queue.ledger.live_workers()}) == 1
    [account] = {worker.account for worker in queue.ledger.live_workers()}
    assert queue.ledger.pace_view(account).base == simulator.url

    job.result(60)
    assert first.stop() == 0
    assert [worker.name for worker in queue.ledger.live_workers()] == [f"{second.pid}@{name}"]


def test_a_worker_that_was_killed_is_not_listed_for_long(
    queue: MiraQueue, start_worker: StartWorker, redis_client: redis.Redis
) -> None:
    worker = start_worker()
    wait_until("it is listed", queue.ledger.live_workers)

    worker.kill()

    wait_until("it counts as crashed", lambda: not queue.ledger.live_workers())
    queue.ledger.report_alive("another", "http://127.0.0.1:9/v1", queue.settings.rescue_interval)
    assert queue.ledger.live_workers() == [LiveWorker("another", f"{os.getpid()}@{socket.gethostname()}")]
    assert redis_client.zcard(names.WORKERS) == 1
    queue.ledger.report_stopped("another")
