"""Workers die, messages are lost, messages come twice: every job ends once."""

from __future__ import annotations

import signal

import redis

from mira_queue import Job, JobState, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60
HOUR_MS = 3_600_000


def enqueue(queue: MiraQueue, text: str) -> Job:
    return queue.enqueue([{"role": "user", "content": text}])


def wait_for_call(simulator: SimulatorProcess) -> None:
    wait_until("a call is in flight", lambda: simulator.stats()["in_flight"] == 1)


def test_a_job_whose_worker_was_killed_in_the_middle_of_its_call_runs_again(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    doomed = start_worker()
    job = enqueue(queue, "[[sim:hangx1]] Hello")
    wait_for_call(simulator)
    doomed.kill()

    other = start_worker()

    completion = job.result(TIMEOUT_S)
    assert (completion.attempts, completion.unanswered_calls) == (1, 1)
    assert (job.status().crashes, job.status().unanswered_calls) == (1, 1)
    assert simulator.stats()["calls"] == 2
    # Said after the message is sent, when the job may have ended already.
    wait_until("the rescuer says so", lambda: other.events("rescued", leases=1))


def test_a_worker_that_was_paused_past_its_lease_stores_nothing(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=3)
    sleeper = start_worker()
    job = enqueue(queue, "Hello")
    wait_for_call(simulator)
    sleeper.signal(signal.SIGSTOP)
    simulator.configure(latency_s=0)
    try:
        start_worker()
        first = job.outcome(TIMEOUT_S)
    finally:
        sleeper.signal(signal.SIGCONT)

    wait_until("the sleeper drops its outcome", lambda: sleeper.events("outcome_dropped", job_id=job.id))
    assert job.outcome(0) == first
    assert first.unanswered_calls == 1
    assert simulator.stats()["calls"] == 2


def test_a_job_whose_message_the_queue_has_lost_is_found(
    account: str, queue: MiraQueue, redis_client: redis.Redis, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    jobs = [enqueue(queue, f"number {number}") for number in range(3)]
    assert redis_client.delete(names.messages_key(account, Lane.NORMAL)) == 1
    # An hour ago, rather than waiting out the time in which a message may be on its way.
    for job in jobs:
        redis_client.zincrby(names.queued_key(account, Lane.NORMAL), -HOUR_MS, job.id)

    start_worker()

    assert [job.result(TIMEOUT_S).text for job in jobs] == [f"Simulated answer to: number {n}" for n in range(3)]
    assert simulator.stats()["calls"] == 3


def test_a_job_whose_message_is_lost_behind_others_is_found_while_they_run(
    account: str, queue: MiraQueue, redis_client: redis.Redis, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    lost = enqueue(queue, "lost")
    redis_client.delete(names.messages_key(account, Lane.NORMAL))
    redis_client.zincrby(names.queued_key(account, Lane.NORMAL), -HOUR_MS, lost.id)
    others = [enqueue(queue, f"[[sim:slow=0.1]] {number}") for number in range(40)]

    start_worker(concurrency=1)

    assert lost.result(TIMEOUT_S).attempts == 1
    assert any(job.status().state is JobState.QUEUED for job in others)
    assert [job.result(TIMEOUT_S).attempts for job in others] == [1] * 40
    assert simulator.stats()["calls"] == 41


def test_a_message_of_a_cancelled_job_makes_no_call(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    cancelled, other = enqueue(queue, "no"), enqueue(queue, "yes")
    assert cancelled.cancel()

    start_worker()

    assert other.result(TIMEOUT_S)
    assert simulator.stats()["calls"] == 1
