"""Jobs of a killed process whose lines have changed since: they are not called, and a cancel removes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import redis

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchStatus
from mira_queue.contract.states import JobState
from tests.support.batch_steps import at, entries, submitted
from tests.support.run_process import (
    ANSWERS,
    INPUT,
    RunProcess,
    answered_calls,
    ids,
    prompts,
    read_lines,
    run_to_the_end,
    write_lines,
)
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until


def test_a_killed_run_whose_lines_have_changed_sends_none_of_the_old_requests(
    tmp_path: Path, redis_url: str, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    settings: dict[str, Any] = {"redis_url": redis_url, "api_base": simulator.url}
    write_lines(tmp_path / INPUT, prompts(60))
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **settings) as run:
        wait_until("all lines are submitted", lambda: len(redis_client.keys("mira:job:*")) == 60)
        run.kill()
    write_lines(tmp_path / INPUT, [*prompts(30), *prompts(60, suffix=" now")[30:]])

    again = run_to_the_end(tmp_path, INPUT, **settings)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(60))
    assert sorted(answered_calls(simulator)) == sorted(
        line["prompt"] for line in [*prompts(30), *prompts(60, suffix=" now")[30:]]
    )
    assert set(answered_calls(simulator).values()) == {1}


def test_a_cancel_removes_jobs_of_lines_that_are_not_in_the_input_any_more(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = submitted(batches, tmp_path, entries(30))
    wait_until("its group is known", lambda: batches.ledger.batch(batch_id).group)
    group, account = batches.ledger.batch(batch_id).group, batches.accounts.current.id
    wait_until("its lines are submitted", lambda: len(batches.ledger.unstarted_of(account, group)) == 30)
    other = batches.enqueue([{"role": "user", "content": "of a web app"}])
    write_lines(batches.batches.spool.files(batch_id).input, entries(30, mark="now"))

    batches.batches.cancel(batch_id)

    at(batches, batch_id, BatchStatus.CANCELLED)
    assert batches.ledger.unstarted_of(account, group) == []
    assert other.status().state is JobState.QUEUED
    assert other.cancel()
