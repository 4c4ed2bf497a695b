"""Sentinel: when the master moves, accepted jobs survive, and clients and workers follow it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mira_producer.cli.doctor.finding import Verdict
from mira_producer.cli.doctor.server import check_server

from mira_queue import MiraQueue
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import connect
from tests.support.queue_process import QUICK, WorkerProcess
from tests.support.sentinels import SERVICE, Sentinels, needs_sentinel
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = needs_sentinel
PATIENCE_S = 60


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize("results", ["same", "sentinel"])
def test_jobs_survive_a_failover_and_workers_and_clients_follow_the_master(
    tmp_path: Path, simulator: SimulatorProcess, results: str
) -> None:
    with Sentinels(tmp_path / "servers") as sentinels:
        backend = {"result_backend": sentinels.url} if results == "sentinel" else {}
        target: dict[str, Any] = {"redis_url": sentinels.url, "api_base": simulator.url, **backend}
        settings = Settings(_env_file=None, **{**QUICK, **target})
        with MiraQueue(settings) as queue, WorkerProcess.start(tmp_path, **target) as worker:
            before = queue.enqueue(ask("before")).result(timeout=PATIENCE_S)
            findings = {finding.check: finding.verdict for finding in check_server(settings, sentinels.url)}
            simulator.configure(latency_s=3.0)
            in_flight = queue.enqueue(ask("in flight while the master fails"))
            wait_until("its call is in flight", lambda: simulator.stats()["in_flight"] > 0)
            queued = [queue.enqueue(ask(f"queued {number}")) for number in range(20)]
            waits = sentinels.master.client.info("commandstats")["cmdstat_wait"]["calls"]
            sentinels.fail_over()
            simulator.configure(latency_s=0.0)
            answers = [job.result(timeout=PATIENCE_S).text for job in (in_flight, *queued)]
            after = queue.enqueue(ask("after")).result(timeout=PATIENCE_S)
            worker.stop()

    assert "before" in before.text
    assert findings["server's replicas"] is Verdict.OK
    # Each accept waited for the replica.
    assert waits == 22
    assert len(answers) == 21
    assert all("queued" in answer for answer in answers[1:])
    assert "after" in after.text


def test_a_service_that_the_sentinels_do_not_know_is_named_in_the_error(tmp_path: Path) -> None:
    with Sentinels(tmp_path) as sentinels:
        url = sentinels.url.replace(SERVICE, "another")
        with connect(url, timedelta(0)) as client, pytest.raises(QueueUnavailable, match="another") as raised:
            client.ping()

    assert "Sentinels" in str(raised.value)
    assert "\n" not in str(raised.value)
