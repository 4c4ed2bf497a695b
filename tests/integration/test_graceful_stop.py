"""A worker that is told to end while the queue's server is away: the end of the grace is the end all the same."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mira_queue import MiraQueue
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.redis_pair import PortServer, Wire
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

GRACE_S = 1
# The end of the grace, giving back in vain, and a busy machine; far from what a call or an outage takes.
IN_TIME_S = 20.0


@pytest.mark.parametrize("fault", ["reset", "blackhole"])
def test_a_worker_ends_in_time_without_its_server(fault: str, simulator: SimulatorProcess, tmp_path: Path) -> None:
    with PortServer(tmp_path / "server") as server, Wire(server.port) as wire:
        settings: dict[str, Any] = {"redis_url": wire.url, "api_base": simulator.url}
        with (
            MiraQueue(**{**QUICK, **settings}) as queue,
            WorkerProcess.start(tmp_path, grace=GRACE_S, **settings) as worker,
        ):
            queue.enqueue([{"role": "user", "content": "[[sim:slow=25]]"}])
            wait_until("the call is in flight", lambda: simulator.stats()["in_flight"] == 1)
            wire.reset() if fault == "reset" else wire.blackhole()
            worker.signal(signal.SIGTERM)

            assert worker.wait(IN_TIME_S) == 0
            wire.mend()


@pytest.mark.parametrize("told", [WorkerProcess.terminate, WorkerProcess.hang_up], ids=["SIGTERM", "parent gone"])
def test_a_worker_that_has_never_reached_its_server_ends_when_told(
    told: Callable[[WorkerProcess], None], tmp_path: Path, closed_port: int
) -> None:
    with WorkerProcess.start(tmp_path, redis_url=f"redis://127.0.0.1:{closed_port}/0", grace=600, wait=False) as worker:
        wait_until("it tries", lambda: "Cannot connect" in worker.log())

        told(worker)

        assert worker.wait(IN_TIME_S) == 0


def test_a_cold_shutdown_gives_everything_back_at_once(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    worker = start_worker(grace=600)
    job = queue.enqueue([{"role": "user", "content": "[[sim:slow=25]]"}])
    wait_until("the call is in flight", lambda: simulator.stats()["in_flight"] == 1)

    worker.signal(signal.SIGQUIT)

    worker.wait(IN_TIME_S)
    status = job.status()
    assert (status.state, status.attempts, status.crashes, status.unanswered_calls) == (JobState.QUEUED, 0, 0, 1)
    job.cancel()
