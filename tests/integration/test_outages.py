"""Outages with many calls in flight: one event opens the circuit breaker once, and the end is noticed soon."""

from __future__ import annotations

import pytest

from mira_queue import MiraQueue
from mira_queue.contract.errors import ServerError, ServiceFault
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

OUTAGE_S, PATIENCE_S, MAX_DELAY_S = 1.0, 60, 10
# Calls in flight, and the duration of a call: so short that the outage meets enough of them, and so long that a busy
# machine keeps them in flight.
CALL_S = {3: (0.3, 0.3), 32: (0.3, 1.0)}


@pytest.mark.parametrize(
    ("kind", "in_flight"), [("500", 3), ("500", 32), ("503", 3), ("503", 32), ("refuse", 3), ("refuse", 32)]
)
def test_the_first_answer_comes_soon_after_the_end_of_an_outage(
    kind: str, in_flight: int, queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=CALL_S[in_flight], log_calls=True)
    worker = start_worker(concurrency=in_flight, max_in_flight=in_flight, max_attempts=5)
    bodies = [{"messages": [{"role": "user", "content": f"Question {number}"}]} for number in range(5 * in_flight)]
    # In one step: on a busy machine, jobs that are enqueued one by one are answered as quickly as they come.
    jobs = queue.enqueue_many(bodies)
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
    # The bar is two seconds, printed by `python -m bench.outages`. A busy machine is slower than the circuit breaker.
    first_s = min(call["came_s"] for call in simulator.calls() if call["came_s"] > ended_s)
    assert first_s - ended_s < MAX_DELAY_S


def test_few_jobs_survive_an_outage_while_older_calls_are_answered(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=[4.0, 5.0])
    start_worker(concurrency=32, max_in_flight=32, max_attempts=3)
    old = [queue.enqueue([{"role": "user", "content": f"Old {number}"}]) for number in range(12)]
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == len(old), PATIENCE_S)

    simulator.outage(6, "503")
    new = [queue.enqueue([{"role": "user", "content": f"New {number}"}]) for number in range(4)]
    assert [job.result(PATIENCE_S).finish_reason for job in old] == ["stop"] * len(old)
    simulator.configure(latency_s=0.0)

    assert [job.result(PATIENCE_S).finish_reason for job in new] == ["stop"] * len(new)


def test_three_jobs_alone_survive_an_outage(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    start_worker(concurrency=4, max_attempts=3)
    simulator.outage(6, "500")

    jobs = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(3)]

    assert [job.result(PATIENCE_S).finish_reason for job in jobs] == ["stop"] * 3


def test_jobs_that_always_have_a_fault_end_although_no_other_job_is_left(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=0.1)
    # Their second attempt comes after the last answer.
    start_worker(concurrency=16, max_in_flight=16, backoff_base=4.0, backoff_cap=4.0)
    sick = [queue.enqueue([{"role": "user", "content": f"[[sim:{kind}]]"}]) for kind in ("500", "503", "reset")]
    others = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(60)]
    assert [job.result(PATIENCE_S).finish_reason for job in others] == ["stop"] * len(others)

    for job in sick:
        with pytest.raises(ServiceFault):
            job.result(PATIENCE_S)


@pytest.mark.parametrize("kind", ["500", "503"])
def test_a_job_that_always_has_a_fault_ends_although_others_have_faults_now_and_then(
    kind: str, queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=0.3, faults={kind: 0.1})
    start_worker(concurrency=32, max_in_flight=32, max_attempts=5)
    sick = [queue.enqueue([{"role": "user", "content": f"[[sim:{kind}]] {number}"}]) for number in range(3)]
    others = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(200)]

    for job in sick:
        with pytest.raises(ServerError):
            job.result(PATIENCE_S)
    assert [job.result(PATIENCE_S).finish_reason for job in others] == ["stop"] * len(others)
