"""Sentinel: when the master moves, accepted jobs survive, and clients and workers follow it."""

from __future__ import annotations

from pathlib import Path

from tests.support.cli_process import Cli
from tests.support.queue_process import WorkerProcess
from tests.support.sentinels import Sentinels, needs_sentinel
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = needs_sentinel


def test_jobs_survive_a_failover_and_workers_and_clients_follow_the_master(
    tmp_path: Path, simulator: SimulatorProcess
) -> None:
    with Sentinels(tmp_path / "servers") as sentinels:
        target = {"redis_url": sentinels.url, "api_base": simulator.url}
        cli = Cli(tmp_path, **target)
        with WorkerProcess.start(tmp_path, **target) as worker:
            doctor = cli("doctor", "--json")
            before = cli("enqueue", "--wait", "before")
            simulator.configure(latency_s=3.0)
            in_flight = cli("enqueue", "in flight while the master fails")
            wait_until("its call is in flight", lambda: simulator.stats()["in_flight"] > 0)
            queued = [cli("enqueue", f"queued {number}") for number in range(2)]
            sentinels.fail_over()
            simulator.configure(latency_s=0.0)
            results = [cli("result", "--timeout", "50", done.out.strip()) for done in (in_flight, *queued)]
            after = cli("enqueue", "--wait", "after")
            worker.stop()

    assert doctor.code == 0
    assert before.code == 0
    assert [done.code for done in results] == [0, 0, 0]
    assert (after.code, "after" in after.out) == (0, True)
