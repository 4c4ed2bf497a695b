"""Outages with many calls in flight: one event opens the circuit breaker once, and the end is noticed soon."""

from __future__ import annotations

import pytest

from mira_queue import MiraQueue
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

CALL_S, OUTAGE_S, PATIENCE_S = 0.3, 1.0, 60


@pytest.mark.parametrize(
    ("kind", "in_flight"), [("500", 3), ("500", 32), ("503", 3), ("503", 32), ("refuse", 3), ("refuse", 32)]
)
def test_the_first_answer_comes_within_two_seconds_of_the_end_of_an_outage(
    kind: str, in_flight: int, queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=CALL_S, log_calls=True)
    worker = start_worker(concurrency=in_flight, max_in_flight=in_flight, max_attempts=5)
    jobs = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(5 * in_flight)]
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] >= in_flight // 2 + 1, PATIENCE_S)

    if kind == "refuse":
        simulator.outage(OUTAGE_S, kind)
    else:
        simulator.configure(faults={kind: 1.0})
    began_s = simulator.stats()["uptime_s"]
    wait_until("the outage has lasted", lambda: simulator.stats()["uptime_s"] >= began_s + OUTAGE_S, PATIENCE_S)
    simulator.configure(faults={})
    wait_until("the port is open", lambda: simulator.stats()["outage"] is None, PATIENCE_S)
    ended_s = simulator.stats()["uptime_s"]

    assert [job.result(PATIENCE_S).finish_reason for job in jobs] == ["stop"] * len(jobs)
    assert worker.events("breaker_opened", reason="faults")
    first_s = min(call["left_s"] for call in simulator.calls() if call["came_s"] > ended_s)
    assert first_s - ended_s < 2 + CALL_S
