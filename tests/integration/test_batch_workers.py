"""Batches whose worker must be a special one, or none."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import redis

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import BatchOptions, BatchStatus
from tests.conftest import StartWorker
from tests.support.batch_steps import LINES, at, entries, every_line_once, results, submitted
from tests.support.run_process import read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


def test_after_the_deadline_lines_are_not_run_until_they_are_asked_for_again(
    batches: MiraQueue, simulator: SimulatorProcess, start_worker: StartWorker, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries())
    options = BatchOptions(deadline_s=int(time.time()) + 4)
    # No worker is there: nothing can be answered before.
    batch_id = batches.batches.submit(tmp_path / "input.jsonl", options=options).id

    batch = at(batches, batch_id, BatchStatus.EXPIRED)
    assert batch.codes == {"batch_expired": LINES}
    results(batches, batch_id, tmp_path)
    assert {orjson.dumps(line["response"]) for line in read_lines(tmp_path / "errors.jsonl")} == {b"null"}
    assert simulator.stats()["calls"] == 0

    start_worker()
    batches.batches.retry(batch_id, ["batch_expired"])
    batch = batches.batches.wait(batch_id, 60)
    assert (batch.status, batch.answered) == (BatchStatus.COMPLETED, LINES)
    assert "expired" not in batch.stamps
    every_line_once(*results(batches, batch_id, tmp_path))


def test_a_cancelled_line_that_waited_after_a_lost_call_is_not_said_to_be_not_run(
    account: str,
    batches: MiraQueue,
    redis_client: redis.Redis,
    simulator: SimulatorProcess,
    start_worker: StartWorker,
    tmp_path: Path,
) -> None:
    start_worker(backoff_base=3000, backoff_cap=3000)
    batch_id = submitted(batches, tmp_path, [{"custom_id": "line-0", "prompt": "[[sim:close]]"}])
    wait_until("its call was lost", lambda: redis_client.zcard(names.waiting_key(account)) == 1)

    batches.batches.cancel(batch_id)

    batch = at(batches, batch_id, BatchStatus.CANCELLED)
    results(batches, batch_id, tmp_path)
    [line] = read_lines(tmp_path / "errors.jsonl")
    assert "may have been billed" in line["error"]["message"]
    assert batch.unanswered_calls == line["mira"]["calls"] == simulator.stats()["calls"]
