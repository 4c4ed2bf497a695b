"""Waiting for hours and days: no call too early, none twice, no memory taken, and no "too many retries"."""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis

from bench.long_waits import HOURS_A_DAY, measure
from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.states import JobState
from tests.conftest import StartWorker
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 60.0
HOUR_MS = 3_600_000
CONCURRENCY = 3
# A worker that kept a message for each of the waiting jobs would need more; what Python takes by the way is less.
FLAT_MIB = 25


def test_days_of_a_used_up_quota_cost_one_call_an_hour_and_no_job(short_folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=short_folder) as folder:
        found = measure(Path(folder), jobs=150, days=2, hour_s=0.15, quota=20, concurrency=CONCURRENCY)

    assert (found.failed, found.answered_twice, found.unanswered, found.early_calls) == (0, 0, 0, 0)
    # One probe an hour, and those in flight when a day's quota was used up.
    assert found.refusals <= found.hours + (found.hours / HOURS_A_DAY + 1) * CONCURRENCY
    assert found.answered_in_time < found.jobs
    assert max(found.mib) - found.mib[0] < FLAT_MIB


def test_an_hours_wait_is_kept_in_the_ledger_and_not_in_a_worker(
    account: str, queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    start_worker()
    job = queue.enqueue([{"role": "user", "content": "[[sim:429x1 retry-after=3600]]"}])
    wait_until("it waits", lambda: job.status().state is JobState.WAITING)

    due_ms = job.status().due_ms
    assert due_ms is not None
    # No message is on its way: it counts as overdue at the very time it is due.
    assert redis_client.zscore(names.waiting_key(account), job.id) == due_ms
    wait_until("its message is done with", lambda: not redis_client.hlen("unacked"))

    _let_pass(account, redis_client, HOUR_MS, job.id, due_ms)

    completion = job.result(TIMEOUT_S)
    assert (completion.attempts, completion.unanswered_calls) == (1, 0)
    assert simulator.stats()["calls"] == 2


def test_a_short_wait_is_a_countdown_of_celerys(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    start_worker()
    job = queue.enqueue([{"role": "user", "content": "[[sim:429x1 retry-after=1]]"}])
    wait_until(
        "the worker holds a countdown", lambda: any(b'"eta": "2' in held for held in redis_client.hvals("unacked"))
    )

    completion = job.result(TIMEOUT_S)

    assert (completion.attempts, completion.unanswered_calls) == (1, 0)
    assert (simulator.stats()["calls"], simulator.stats()["early"]) == (2, 0)


def _let_pass(account: str, client: redis.Redis, passed_ms: int, job_id: str, due_ms: int) -> None:
    """Move what the server knows of this wait into the past."""
    for key in client.keys("mira:pace:*"):
        client.hdel(key, "open_until")
    client.hset(names.job_key(job_id), "due_ms", due_ms - passed_ms)
    client.zadd(names.waiting_key(account), {job_id: due_ms - passed_ms})
