"""A job's way from `enqueue` to its outcome, on real parts."""

from __future__ import annotations

from datetime import timedelta

import redis

from mira_queue import Failure, Job, MiraQueue
from mira_queue.contract import names
from tests.support.ledger_steps import begin, claimed, new_job
from tests.support.queue_process import WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60


def enqueue(queue: MiraQueue, text: str) -> Job:
    return queue.enqueue([{"role": "user", "content": text}])


def wait_for_call(simulator: SimulatorProcess) -> None:
    wait_until("a call is in flight", lambda: simulator.stats()["in_flight"] == 1)


def test_a_job_goes_in_and_its_completion_comes_out(
    queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    completion = queue.enqueue([{"role": "user", "content": "Hello"}]).result(timeout=60)

    assert completion.text == "Simulated answer to: Hello"
    assert completion.finish_reason == "stop"
    assert completion.usage["total_tokens"] > 0
    assert completion.body["object"] == "chat.completion"
    assert completion.attempts == 1
    assert simulator.stats()["calls"] == 1


def test_a_job_that_kills_its_workers_ends_as_poison(
    queue: MiraQueue, redis_client: redis.Redis, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    owner = queue.accounts.current
    (accepted,) = queue.ledger.accept(owner.id, [new_job()])
    # As two workers have left it that died, and a third that has just died.
    redis_client.hset(names.job_key(accepted.id), "crashes", 2)
    lease = claimed(queue.ledger, accepted.id, timedelta(seconds=1), account=owner.id, base=owner.base)
    assert begin(queue.ledger, lease) == "go"

    job = queue.job(accepted.id)
    outcome = job.outcome(TIMEOUT_S)

    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.status, outcome.retryable) == ("poison", None, True)
    assert "3 times" in outcome.detail
    assert simulator.stats()["calls"] == 0
    assert worker.events("poison", job_id=job.id)
    # Its owner may try once more, and then it counts from nothing.
    assert job.retry()
    assert job.result(TIMEOUT_S).text == "Simulated answer to: Hello"


def test_a_message_that_comes_again_and_again_makes_one_call(
    queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    job = enqueue(queue, "[[sim:slow=1]] Hello")
    queue.send(queue.accounts.current.id, [job.id] * 10)
    wait_for_call(simulator)
    queue.send(queue.accounts.current.id, [job.id] * 10)
    job.result(TIMEOUT_S)
    queue.send(queue.accounts.current.id, [job.id] * 10)

    # Whatever was sent before this one has been looked at when it ends.
    assert enqueue(queue, "last").result(TIMEOUT_S)
    assert simulator.requests()["by_content"]["[[sim:slow=1]] Hello"] == {
        "calls": 1,
        "answered": 1,
        "refused": 0,
    }
