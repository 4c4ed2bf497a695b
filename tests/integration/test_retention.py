"""Outcomes live for MIRA_RESULT_TTL; then nothing is left of jobs and batches, and all else has an end of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.settings import Settings
from tests.conftest import StartWorker
from tests.support import redis_keys
from tests.support.batch_steps import at, end_supervisors, entries, submitted
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

LIFE_S = 5
# An account is known for a week, its window for as long as it looks back: they end by themselves, too.
OF_THE_ACCOUNT = (
    *("mira:accounts", "mira:workers", "mira:pace:", "mira:sent:", "mira:tokens:"),
    *("mira:in-flight:", "mira:turns:", "mira:turn-ends:", "mira:faults:"),
    *("mira:activity:", "mira:call-times:", "mira:limits:"),
    # Of the ledger itself.
    *("mira:schema", "mira:clock"),
)


@pytest.fixture
def queue(settings: Settings) -> Iterator[MiraQueue]:
    with MiraQueue(**settings.model_dump(exclude_unset=True) | {"result_ttl": LIFE_S}) as queue:
        yield queue
        end_supervisors(queue)


def test_when_their_time_is_over_nothing_is_left_of_jobs_and_batches(
    queue: MiraQueue,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    redis_client: redis.Redis,
    tmp_path: Path,
) -> None:
    start_worker(result_ttl=LIFE_S)
    contents = ["well", "[[sim:moderation]]", "[[sim:503x1]]", "[[sim:429x1 retry-after=1]]", "[[sim:slow=1]]"]
    bodies = [{"messages": [{"role": "user", "content": content}]} for content in contents]
    jobs = queue.enqueue_many(bodies, keys=contents, group="retention")
    jobs[-1].cancel()
    # Each as it ends. The one that was cancelled has ended first, and may be gone by now.
    for job in jobs[:-1]:
        job.outcome(60)
    batch_id = submitted(queue, tmp_path, [*entries(20), {"custom_id": "bad", "prompt": "[[sim:moderation]]"}])
    at(queue, batch_id, BatchStatus.COMPLETED)

    def left() -> list[str]:
        found: list[Any] = redis_client.keys("mira:*")
        ours = [key.decode() for key in found] + redis_client.keys("celery-task-meta-*")
        return [key for key in ours if not str(key).startswith(OF_THE_ACCOUNT)]

    wait_until("their time is over", lambda: queue.batches.all() == [] and left() == [])
    assert redis_keys.leaked(redis_client) == []
    # The supervisor looks, as long as it is there, and every later one.
    wait_until("its files are gone", lambda: list(queue.batches.spool.ids()) == [])
