"""Many jobs in one message: run in order where that is quick, handed back where it is not."""

from __future__ import annotations

import signal

import redis
from mira_producer.processes import worker_command

from mira_queue import Job, JobState, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.ledger.records import NewJob, new_job_id
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60


def enqueue(queue: MiraQueue, texts: list[str]) -> list[Job]:
    """In the bulk lane."""
    requests = [queue.check({"messages": [{"role": "user", "content": text}]}) for text in texts]
    return queue.accept([NewJob(request, new_job_id(), lane=Lane.BULK) for request in requests])


def questions(count: int, mark: str = "") -> list[str]:
    return [f"question {number} {mark}" for number in range(count)]


def test_fifty_jobs_are_one_message(
    account: str, queue: MiraQueue, redis_client: redis.Redis, start_worker: StartWorker
) -> None:
    jobs = enqueue(queue, questions(120))
    assert redis_client.llen(names.messages_key(account, Lane.BULK)) == 3

    start_worker()

    assert {job.result(TIMEOUT_S).attempts for job in jobs} == {1}


def test_whoever_sends_messages_subscribes_to_nothing(queue: MiraQueue, redis_client: redis.Redis) -> None:
    enqueue(queue, questions(120))
    queue.enqueue([{"role": "user", "content": "Hello"}])

    # Celery would listen for the result of each, and what it never reads would pile up.
    assert redis_client.pubsub_channels(names.result_key("*")) == []


def test_slow_answers_spread_over_all_slots(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=1)
    # On a busy machine, neither must seem to be dead to the other.
    start_worker(concurrency=10, max_in_flight=10, lease=30)
    start_worker(concurrency=10, max_in_flight=20, lease=30)
    jobs = enqueue(queue, questions(50))

    # One message, and twenty slots in two processes: as many calls are out at a time.
    wait_until("every slot has a job", lambda: simulator.stats()["in_flight"] >= 10)
    assert {job.result(TIMEOUT_S).attempts for job in jobs} == {1}
    assert simulator.stats()["calls"] == 50
    assert simulator.stats()["max_in_flight"] > 10


def test_while_other_groups_wait_none_is_handed_back(
    account: str, queue: MiraQueue, simulator: SimulatorProcess, redis_client: redis.Redis, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=0.2)
    # One group is run, one is taken ahead, three wait. All are queued first: a group is handed back if no other waits
    # for longer than a call.
    jobs = enqueue(queue, questions(250))
    start_worker(concurrency=1)
    wait_until("some are done", lambda: simulator.stats()["answered"] >= 5)

    assert redis_client.llen(names.messages_key(account, Lane.BULK)) == 3
    for job in jobs:
        job.cancel()


def test_a_single_job_gets_in_between_while_other_groups_wait(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=0.2)
    start_worker(concurrency=2)
    jobs = enqueue(queue, questions(1000))
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    assert queue.enqueue([{"role": "user", "content": "Hello"}]).result(TIMEOUT_S).attempts == 1
    # Ten seconds each is what the groups would have taken.
    assert simulator.stats()["answered"] < 100
    for job in jobs:
        job.cancel()


def test_a_job_that_must_be_tried_again_leaves_its_group(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    start_worker(concurrency=1)
    jobs = enqueue(queue, ["[[sim:503x1]]", *questions(20)])

    assert {job.result(TIMEOUT_S).attempts for job in jobs[1:]} == {1}
    assert jobs[0].result(TIMEOUT_S).attempts == 2


def test_a_worker_that_stops_gives_the_rest_of_its_group_back(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=0.5)
    worker = start_worker(concurrency=2)
    jobs = enqueue(queue, questions(30))
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    assert worker.stop() == 0

    states = [job.status().state for job in jobs]
    assert set(states) <= {JobState.QUEUED, JobState.SUCCEEDED}
    assert JobState.QUEUED in states
    simulator.configure(latency_s=0)
    start_worker()
    assert {job.result(TIMEOUT_S).attempts for job in jobs} == {1}
    assert simulator.stats()["calls"] == 30


def test_a_killed_workers_group_is_run_by_another(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    simulator.configure(latency_s=0.5)
    fast = {"lease": 2, "rescue_interval": 0.5, "resend_after": 1}
    worker = start_worker(concurrency=2, **fast)
    jobs = enqueue(queue, questions(30))
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    worker.signal(signal.SIGKILL)
    simulator.configure(latency_s=0)
    # Its own leases are long: on a busy machine it must not seem to be dead, too.
    start_worker(**{**fast, "lease": 30})

    outcomes = [job.result(TIMEOUT_S) for job in jobs]
    assert sum(each.unanswered_calls for each in outcomes) <= 2
    assert simulator.stats()["calls"] <= 32


def test_where_single_jobs_have_a_worker_the_others_take_files_first(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    single = queue.enqueue([{"role": "user", "content": "Hello"}])
    lines = [job for _ in range(3) for job in enqueue(queue, ["[[sim:slow=300]]"])]

    # One call at a time, and one more message in hand: the single job is left to others. On a busy machine, neither the
    # line in hand nor its worker must seem to be lost: whoever does single jobs runs what is sent again.
    patient = {"lease": 30, "resend_after": 600}
    start_worker(concurrency=1, grace=0, command=worker_command(kind="files-first"), **patient)
    wait_until("a call is in flight", lambda: simulator.stats()["in_flight"] == 1)
    assert single.status().state is JobState.QUEUED
    start_worker(command=worker_command(kind="single"), **patient)

    assert single.result(TIMEOUT_S).attempts == 1
    assert [line.status().state for line in lines].count(JobState.RUNNING) == 1
    for line in lines:
        line.cancel()


def test_a_single_job_passes_a_file(queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker) -> None:
    simulator.configure(latency_s=0.2)
    start_worker(concurrency=2)
    jobs = enqueue(queue, questions(100))
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 2)

    single = queue.enqueue([{"role": "user", "content": "Hello"}])

    assert single.result(TIMEOUT_S).attempts == 1
    assert sum(job.status().state.is_final for job in jobs) < 50
    for job in jobs:
        job.cancel()
