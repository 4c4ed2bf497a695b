"""A producer dies exactly here. Each test is a row of the table in docs/states.md."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.names import Lane
from tests.conftest import StartWorker
from tests.support.crash_matrix import GROUP, QUICK_RESEND, ends, row
from tests.support.queue_process import QUICK, environment
from tests.support.simulator_process import SimulatorProcess

KEYS = ["first", "second"]
# Accepts its jobs in one call each, so that the second pass of a point lies between them.
PRODUCER = f"""
from mira_queue import MiraQueue

with MiraQueue() as queue:
    for key in {KEYS!r}:
        queue.enqueue_many([{{"messages": [{{"role": "user", "content": key}}]}}], keys=[key], group={GROUP!r})
"""

DieAt = Callable[[str], None]


@pytest.fixture
def die_at(redis_url: str, simulator: SimulatorProcess, tmp_path: Path) -> DieAt:
    def die(crash_at: str) -> None:
        settings = {**QUICK, "redis_url": redis_url, "api_base": simulator.url, "crash_at": crash_at}
        ended = subprocess.run([sys.executable, "-c", PRODUCER], env=environment(**settings), cwd=tmp_path, timeout=60)
        assert ended.returncode == -signal.SIGKILL

    return die


@row("producer", "before `accept` has returned")
def test_a_producer_that_never_heard_of_its_job_gets_the_same_one_when_it_asks_again(
    account: str,
    queue: MiraQueue,
    start_worker: StartWorker,
    simulator: SimulatorProcess,
    redis_client: redis.Redis,
    die_at: DieAt,
) -> None:
    die_at(f"{CrashPoint.BEFORE_ACCEPT}:2")
    assert len(_accepted(account, redis_client)) == 1
    die_at(f"{CrashPoint.AFTER_ACCEPT}:2")
    accepted = _accepted(account, redis_client)
    assert len(accepted) == 2

    jobs = queue.enqueue_many([_body(key) for key in KEYS], keys=KEYS, group=GROUP)

    assert [job.id for job in jobs] == accepted
    start_worker(**QUICK_RESEND)
    assert [job.result(60).text for job in jobs] == [f"Simulated answer to: {key}" for key in KEYS]
    assert simulator.stats()["calls"] == 2
    assert sorted(ends(queue)) == sorted(accepted)


@row("producer", "after `accept`, before its message is sent")
def test_an_accepted_job_that_was_never_sent_runs(
    account: str,
    queue: MiraQueue,
    start_worker: StartWorker,
    simulator: SimulatorProcess,
    redis_client: redis.Redis,
    die_at: DieAt,
) -> None:
    die_at(CrashPoint.AFTER_ACCEPT)
    [job_id] = _accepted(account, redis_client)
    assert redis_client.llen(names.messages_key(account, Lane.NORMAL)) == 0

    start_worker(**QUICK_RESEND)

    assert queue.job(job_id).result(60).unanswered_calls == 0
    assert simulator.stats()["calls"] == 1
    assert ends(queue) == [job_id]


def _body(content: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": content}]}


def _accepted(account: str, client: redis.Redis) -> list[str]:
    found: list[Any] = client.zrange(names.queued_key(account, Lane.NORMAL), 0, -1)
    return [job_id.decode() for job_id in found]
