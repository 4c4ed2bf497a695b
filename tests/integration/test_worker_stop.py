"""A worker that is told to end: what can finish does, what cannot goes back unharmed, and it is gone in time."""

from __future__ import annotations

import signal

import pytest

from mira_queue import Job, JobState, MiraQueue
from tests.conftest import StartWorker
from tests.support.queue_process import CELERY_COMMAND, OWN_COMMAND, WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60


def enqueue(queue: MiraQueue, text: str) -> Job:
    return queue.enqueue([{"role": "user", "content": text}])


def wait_for_calls(simulator: SimulatorProcess, count: int = 1) -> None:
    wait_until(f"{count} calls are in flight", lambda: simulator.stats()["in_flight"] == count)


@pytest.mark.parametrize("command", [OWN_COMMAND, CELERY_COMMAND], ids=["own", "celery"])
def test_sigterm_lets_the_call_in_flight_finish(
    command: tuple[str, ...], queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(command=command)
    job = enqueue(queue, "[[sim:slow=1]] Hello")
    wait_for_calls(simulator)

    assert worker.stop() == 0

    completion = job.result(timeout=0)
    assert (completion.attempts, completion.unanswered_calls) == (1, 0)
    assert simulator.stats()["calls"] == 1


def test_jobs_that_wait_their_turn_go_back_and_another_worker_runs_them(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(concurrency=1)
    jobs = [enqueue(queue, f"[[sim:slow=0.5]] {number}") for number in range(4)]
    wait_for_calls(simulator)

    assert worker.stop() == 0

    done = [job for job in jobs if job.status().state is JobState.SUCCEEDED]
    assert len(done) < len(jobs)
    for job in jobs:
        if job not in done:
            status = job.status()
            assert (status.state, status.attempts, status.unanswered_calls) == (JobState.QUEUED, 0, 0)
    start_worker(concurrency=4)
    assert [job.result(TIMEOUT_S).attempts for job in jobs] == [1] * 4
    assert simulator.stats()["calls"] == 4


def test_jobs_at_a_closed_gate_go_back_at_once(
    queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(concurrency=2)
    limited = enqueue(queue, "[[sim:429 retry-after=600]]")
    wait_until("the job waits", lambda: limited.status().state is JobState.WAITING)
    at_the_gate = [enqueue(queue, f"{number}") for number in range(2)]
    wait_until("they are taken", lambda: all(job.status().state is JobState.RUNNING for job in at_the_gate))

    # Within the time that stop() grants, which is a tenth of the Retry-After.
    assert worker.stop() == 0

    for job in at_the_gate:
        status = job.status()
        assert (status.state, status.attempts, status.unanswered_calls) == (JobState.QUEUED, 0, 0)
        assert job.cancel()
    assert simulator.stats()["calls"] == 1
    assert limited.cancel()


def end_of_grace(worker: WorkerProcess) -> None:
    worker.signal(signal.SIGTERM)


def second_interrupt(worker: WorkerProcess) -> None:
    worker.signal(signal.SIGINT)
    wait_until("the worker is stopping", lambda: worker.events("stopping"))
    worker.signal(signal.SIGINT)


@pytest.mark.parametrize(("end", "grace_s"), [(end_of_grace, 0.3), (second_interrupt, 600)])
def test_when_the_grace_is_over_the_job_goes_back_and_its_call_is_counted(
    end: object, grace_s: float, queue: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker
) -> None:
    worker = start_worker(grace=grace_s)
    job = enqueue(queue, "[[sim:hangx1]] Hello")
    wait_for_calls(simulator)

    end(worker)  # type: ignore[operator]
    worker.wait()

    status = job.status()
    assert (status.state, status.attempts, status.unanswered_calls) == (JobState.QUEUED, 0, 1)
    assert status.crashes == 0
    # Its message is in the queue: nothing has to be rescued.
    start_worker(rescue_interval=3600)
    completion = job.result(TIMEOUT_S)
    assert (completion.attempts, completion.unanswered_calls) == (1, 1)
    assert simulator.stats()["calls"] == 2


def test_a_worker_ends_when_its_parent_is_gone(queue: MiraQueue, start_worker: StartWorker) -> None:
    worker = start_worker()

    worker.hang_up()

    assert worker.wait() == 0
    assert worker.events("stopping")
