"""The queue's server loses its data while no supervisor runs: batches are found by their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis
from mira_producer.batches.client import StoredInput
from mira_producer.batches.spool import Spool

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchOrigin, BatchStatus
from mira_queue.contract.errors import BatchNotFound, QueueUnavailable
from tests.support import redis_keys
from tests.support.batch_steps import at, end_supervisors, entries, every_line_once, results, submitted, supervisors
from tests.support.run_process import write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")


def lose_data(queue: MiraQueue, client: redis.Redis) -> None:
    end_supervisors(queue)
    wait_until("no supervisor runs", lambda: not supervisors(queue))
    redis_keys.clear(client)


def test_a_batch_whose_ledger_was_lost_is_shown_as_paused_and_resume_sends_only_lines_without_an_answer(
    batches: MiraQueue, simulator: SimulatorProcess, redis_client: redis.Redis, tmp_path: Path
) -> None:
    simulator.configure(latency_s=0.1)
    batch_id = submitted(batches, tmp_path, entries())
    wait_until("some lines are answered", lambda: batches.batches.get(batch_id).answered > 10)
    lose_data(batches, redis_client)

    (batch,) = batches.batches.all()
    assert (batch.id, batch.paused_by, batch.metadata) == (batch_id, "lost", {"for": "a test"})
    answers, _ = results(batches, batch_id, tmp_path)
    assert 10 < batch.answered == len(answers)
    assert batches.batches.get(batch_id).paused_by == "lost"

    simulator.configure(latency_s=0)
    wait_until("no call is in flight", lambda: not simulator.stats()["in_flight"])
    simulator.reset()
    batches.batches.resume(batch_id)
    at(batches, batch_id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch_id, tmp_path))
    called = {content.split()[1] for content in simulator.requests()["by_content"]}
    assert not called & {custom_id.removeprefix("line-") for custom_id in answers}


def test_a_batch_that_had_ended_keeps_its_results(
    batches: MiraQueue, redis_client: redis.Redis, tmp_path: Path
) -> None:
    batch_id = submitted(batches, tmp_path, entries(3))
    before = at(batches, batch_id, BatchStatus.COMPLETED)
    lose_data(batches, redis_client)

    assert batches.batches.get(batch_id) == before
    every_line_once(*results(batches, batch_id, tmp_path), 3)


def test_a_batch_of_another_queue_or_without_files_is_unknown(
    batches: MiraQueue, redis_client: redis.Redis, tmp_path: Path
) -> None:
    batch_id = submitted(batches, tmp_path, entries(3))
    at(batches, batch_id, BatchStatus.COMPLETED)
    lose_data(batches, redis_client)
    (batches.batches.spool.folder(batch_id) / "queue").write_text("another")

    assert batches.batches.all() == []
    with pytest.raises(BatchNotFound):
        batches.batches.get(batch_id)


def test_a_batch_that_is_submitted_while_a_list_is_read_is_not_taken_for_lost(
    batches: MiraQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Spool.folders

    def folders_after_a_submission(spool: Spool) -> set[str]:
        # Between the ledger's list and that of the files, where a process may be stopped for any time.
        submitted(batches, tmp_path, entries(3))
        return folders(spool)

    with monkeypatch.context() as patch:
        patch.setattr(Spool, "folders", folders_after_a_submission)
        (batch,) = batches.batches.all()

    assert not batch.paused
    at(batches, batch.id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch.id, tmp_path), 3)


def test_a_request_whose_batch_was_added_and_that_failed_gets_the_same_batch_when_it_is_repeated(
    batches: MiraQueue, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(3))
    stored = StoredInput("input.jsonl", BatchOrigin("project"), identity="019aa000-0000-7000-8000-000000000000")
    add = batches.ledger.add_batch

    def add_without_a_response(*arguments: Any) -> bool:
        add(*arguments)
        raise QueueUnavailable("the response was lost")

    with monkeypatch.context() as patch:
        patch.setattr(batches.ledger, "add_batch", add_without_a_response)
        with pytest.raises(QueueUnavailable):
            batches.batches.submit(tmp_path / "input.jsonl", stored=stored)
    batch = batches.batches.submit(tmp_path / "input.jsonl", stored=stored)

    assert batch.id == stored.new_batch_id()
    at(batches, batch.id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch.id, tmp_path), 3)
