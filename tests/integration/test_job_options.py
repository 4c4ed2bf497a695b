"""Delays, deadlines, priorities, and lists of jobs, with a real worker."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
import redis

from mira_queue import JobExpired, JobState, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60
HOUR = timedelta(hours=1)


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_delayed_job_starts_when_its_time_has_come_and_not_before(
    queue: MiraQueue, account: str, start_worker: StartWorker, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    start_worker()
    later, soon = queue.enqueue(ask("later"), delay=HOUR), queue.enqueue(ask("soon"), delay=0.2)

    assert soon.result(TIMEOUT_S).text == "Simulated answer to: soon"
    assert (later.status().state, simulator.stats()["calls"]) == (JobState.WAITING, 1)
    # No message is on its way: a countdown would occupy the memory of a worker for an hour.
    assert redis_client.zscore(names.waiting_key(account), later.id) == later.status().due_ms
    wait_until("the message of the other job is acknowledged", lambda: redis_client.hlen("unacked") == 0)
    assert later.cancel()


def test_jobs_run_in_the_order_of_their_priorities(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, account: str, redis_client: redis.Redis
) -> None:
    jobs = {name: queue.enqueue(ask(name), priority=name) for name in ("low", "normal", "high")}
    lanes = {Lane.FIRST: "high", Lane.NORMAL: "normal", Lane.LOW: "low"}
    assert {lane: redis_client.llen(names.messages_key(account, lane)) for lane in lanes} == dict.fromkeys(lanes, 1)

    start_worker(concurrency=1)
    for job in jobs.values():
        job.result(TIMEOUT_S)

    ended = sorted(jobs, key=lambda name: jobs[name].status().finished_ms or 0)
    assert ended == ["high", "normal", "low"]


def test_a_job_whose_deadline_passes_while_the_account_waits_fails_without_a_call(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess
) -> None:
    start_worker()
    limited = queue.enqueue(ask("[[sim:429x1 retry-after=3600]]"))
    wait_until("the account waits", lambda: limited.status().state is JobState.WAITING)

    job = queue.enqueue(ask("in time or never"), deadline=1)

    with pytest.raises(JobExpired):
        job.result(TIMEOUT_S)
    assert simulator.stats()["calls"] == 1
    assert [found.id for found in queue.jobs(code="expired")] == [job.id]
    assert limited.cancel()


def test_all_jobs_that_match_are_cancelled_or_retried(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, settings: Settings
) -> None:
    start_worker()
    simulator.configure(balance_calls=0)
    mine = [queue.enqueue(ask(f"mine {number}"), metadata={"tenant": "7"}) for number in range(3)]
    other = queue.enqueue(ask("another's"), metadata={"tenant": "8"})
    for job in (*mine, other):
        job.outcome(TIMEOUT_S)
    simulator.configure(balance_calls=None)

    assert queue.retry_all(code="balance_used_up", metadata={"tenant": "7"}) == 3

    assert [job.result(TIMEOUT_S).text for job in mine] == [f"Simulated answer to: mine {n}" for n in range(3)]
    assert [found.id for found in queue.jobs(state="failed")] == [other.id]
    delayed = [queue.enqueue(ask("never"), delay=HOUR, metadata={"tenant": "8"}) for _ in range(2)]
    assert queue.cancel_all(metadata={"tenant": "8"}) == 2
    assert [job.status().state for job in delayed] == [JobState.CANCELLED] * 2
    assert other.status().state is JobState.FAILED


def test_an_interactive_job_passes_those_of_a_low_priority_that_wait_for_the_account(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, account: str
) -> None:
    start_worker(concurrency=2)
    assert queue.ledger.open_breaker(account, HOUR, message="a test")
    low = [queue.enqueue(ask(f"low {number}"), priority="low") for number in range(6)]
    wait_until("they occupy every thread", lambda: len(queue.jobs(state="running")) == 2)

    interactive = queue.enqueue(ask("interactive"))

    wait_until("it is in line", lambda: interactive.status().state is JobState.RUNNING)
    queue.ledger.probe_now(account)
    for job in (*low, interactive):
        job.result(TIMEOUT_S)
    finished = {job.id: job.status().finished_ms or 0 for job in (*low, interactive)}
    assert finished[interactive.id] == min(finished.values())
    assert [job.status().attempts for job in low] == [1] * 6
    assert simulator.stats()["calls"] == 7


def test_a_job_whose_deadline_passes_in_the_queue_expires_although_no_thread_is_free(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, account: str
) -> None:
    start_worker(concurrency=1)
    assert queue.ledger.open_breaker(account, HOUR, message="a test")
    first = queue.enqueue(ask("first"))
    wait_until("it occupies the thread", lambda: first.status().state is JobState.RUNNING)

    late = [queue.enqueue(ask("late"), deadline=0.5) for _ in range(3)]

    for job in late:
        with pytest.raises(JobExpired):
            job.result(TIMEOUT_S)
    assert simulator.stats()["calls"] == 0
    assert first.cancel()
    queue.ledger.probe_now(account)


def test_time_in_which_no_worker_ran_counts_against_no_delay_and_no_deadline(
    queue: MiraQueue, redis_client: redis.Redis
) -> None:
    # The last worker has read the clock five minutes ago.
    before_ms = round(1000 * time.time()) - 300_000
    redis_client.hset(names.CLOCK, mapping={"server_ms": before_ms, "offset_ms": 0})

    job = queue.enqueue(ask("later"), delay=HOUR, deadline=2 * HOUR)
    queue.ledger.check_clock(is_first=True)

    status = job.status()
    assert status.due_ms is not None
    assert status.deadline_ms is not None
    assert status.due_ms / 1000 - time.time() == pytest.approx(3600, abs=60)
    assert status.deadline_ms / 1000 - time.time() == pytest.approx(7200, abs=60)
    job.cancel()
