"""A worker dies exactly here; another one mends it. Each test is a row of the table in docs/states.md."""

from __future__ import annotations

import signal
from typing import Any

import redis

from mira_queue import MiraQueue
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Failure
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.crash_matrix import QUICK_RESEND, died, ended_once, ends, enqueue, row, start_to_die, wait_for_calls
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


@row("worker", "after it has received the message, before `claim`")
def test_a_job_whose_message_died_with_its_worker_runs(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_MESSAGE)
    job = enqueue(queue)
    died(first)
    assert job.status().state is JobState.QUEUED

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=1, unanswered=0)


@row("worker", "after `claim`, before the call")
def test_a_job_claimed_by_a_dead_worker_runs_again(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_CLAIM)
    job = enqueue(queue)
    died(first)
    assert job.status().state is JobState.RUNNING

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=1, unanswered=0)


@row("worker", "during the call")
def test_a_call_cut_by_its_workers_death_is_made_again_and_counted(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_worker(**QUICK_RESEND)
    job = enqueue(queue, "[[sim:hangx1]]")
    wait_for_calls(simulator, 1)
    first.kill()

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=2, unanswered=1)


@row("worker", "after the response, before `finish`")
def test_an_answer_that_died_with_its_worker_is_asked_for_again_and_counted(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_ANSWER)
    job = enqueue(queue)
    died(first)

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=2, unanswered=1)


@row("worker", "after a 429 has opened the circuit breaker, before `defer`")
def test_a_refused_job_whose_worker_died_waits_for_the_gate_all_the_same(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_OPEN_BREAKER)
    job = enqueue(queue, "[[sim:429x1 retry-after=2]]")
    died(first)

    start_worker(**QUICK_RESEND)

    # The refusal cost nothing, but the worker that knew is dead: it is counted, rather once too often than too seldom.
    ended_once(queue, simulator, job, calls=2, unanswered=1)
    assert simulator.stats()["early"] == 0


@row("worker", "after `finish`, before the message is acknowledged")
def test_a_second_message_of_an_ended_job_finds_nothing_to_do(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_FINISH)
    job = enqueue(queue)
    died(first)
    assert job.status().state is JobState.SUCCEEDED

    second = start_worker(log_level="debug", **QUICK_RESEND)
    queue.send(queue.accounts.current.id, [job.id])

    wait_until("the message was looked at", lambda: second.events("nothing_to_do", job_id=job.id, why="final"))
    ended_once(queue, simulator, job, calls=1, unanswered=0)


@row("worker", "after `defer`, before the countdown message is sent")
def test_a_waiting_job_without_a_message_runs_when_it_is_due(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_DEFER)
    job = enqueue(queue, "[[sim:503x1]]")
    died(first)
    assert job.status().state is JobState.WAITING

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=2, unanswered=0)
    assert job.status().attempts == 2


@row("worker", "with countdown messages in its memory")
def test_a_waiting_job_whose_countdown_died_in_a_worker_runs_when_it_is_due(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    first = start_worker(**QUICK_RESEND)
    job = enqueue(queue, "[[sim:429x1 retry-after=3]]")
    wait_until("the worker holds the countdown", lambda: _countdowns_held(redis_client))
    first.kill()
    assert job.status().state is JobState.WAITING

    start_worker(**QUICK_RESEND)

    ended_once(queue, simulator, job, calls=2, unanswered=0)
    assert simulator.stats()["early"] == 0


@row("worker", "after `release`, before its message is sent")
def test_a_job_given_back_without_a_message_runs(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    first = start_to_die(start_worker, CrashPoint.AFTER_RELEASE)
    refused = enqueue(queue, "[[sim:429x1 retry-after=3]]")
    wait_until("the gate is closed", lambda: refused.status().state is JobState.WAITING)
    job = enqueue(queue)
    wait_until("the job waits at the gate", lambda: job.status().state is JobState.RUNNING)
    first.signal(signal.SIGTERM)
    died(first)
    assert job.status().state is JobState.QUEUED

    start_worker(**QUICK_RESEND)

    assert {job.outcome(60).unanswered_calls, refused.outcome(60).unanswered_calls} == {0}
    assert job.status().attempts == refused.status().attempts == 1
    assert simulator.stats()["calls"] == 3
    assert sorted(ends(queue)) == sorted([job.id, refused.id])


@row("worker", "during the call of the same job, three times (`MIRA_MAX_CRASHES`)")
def test_a_job_that_kills_every_worker_is_set_aside(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    job = None
    for _ in range(3):
        worker = start_to_die(start_worker, CrashPoint.AFTER_ANSWER, wait=False)
        job = job or enqueue(queue)
        died(worker)

    last = start_worker(**QUICK_RESEND)

    assert job is not None
    outcome = job.outcome(timeout=60)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.unanswered_calls) == ("poison", 3)
    assert simulator.stats()["calls"] == 3
    assert len(last.events("poison", job_id=job.id)) == 1
    assert ends(queue) == [job.id]


@row("worker paused (SIGSTOP, a closed laptop)", "anywhere")
def test_a_worker_that_wakes_up_after_its_lease_has_passed_stores_nothing(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    simulator.configure(latency_s=3)
    sleeper = start_worker(**QUICK_RESEND)
    job = enqueue(queue)
    wait_for_calls(simulator, 1)
    sleeper.signal(signal.SIGSTOP)
    simulator.configure(latency_s=0)
    start_worker(**QUICK_RESEND)
    job.outcome(timeout=60)

    sleeper.signal(signal.SIGCONT)

    wait_until("the sleeper drops its answer", lambda: sleeper.events("outcome_dropped", job_id=job.id))
    ended_once(queue, simulator, job, calls=2, unanswered=1)


def _countdowns_held(client: redis.Redis) -> list[bytes]:
    held: list[Any] = client.hvals("unacked")
    return [message for message in held if b'"eta": "2' in message]
