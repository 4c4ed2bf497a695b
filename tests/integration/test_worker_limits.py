"""429: nobody knocks before Retry-After has passed, in whatever form it is written, and no attempt is charged."""

from __future__ import annotations

from typing import Any

import pytest

from mira_queue import JobState, MiraQueue
from tests.support.queue_process import WorkerProcess
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

TIMEOUT_S = 120
DAY_S = 86_400


def hello(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def test_the_limit_of_calls_in_flight_is_waited_out_too(
    queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    simulator.configure(concurrency=2, concurrency_retry_after_s=0.3, latency_s=0.05, early_grace_s=0.2)

    jobs = queue.enqueue_many(hello(f"number {number}") for number in range(20))

    assert {job.result(TIMEOUT_S).attempts for job in jobs} == {1}
    stats = simulator.stats()
    assert stats["by_status"]["200"] == 20
    assert stats["early"] == 0


@pytest.mark.parametrize("written", ["1", "0.3", "date:1"], ids=["seconds", "fraction", "date"])
def test_each_way_to_write_the_wait_is_obeyed(
    written: str, queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    job = queue.enqueue(**hello(f"[[sim:429x2 retry-after={written}]]"))

    assert job.result(TIMEOUT_S).attempts == 1
    stats = simulator.stats()
    assert (stats["calls"], stats["early"], stats["crossed"]) == (3, 0, 0)


@pytest.mark.parametrize(
    ("written", "wait_s", "remark"),
    [("missing", 60, "missing"), ("99999999999", DAY_S, "absurd"), ("later", 60, "unreadable"), ("86400", DAY_S, None)],
)
def test_a_long_wait_is_bounded_and_what_is_odd_about_it_stands_in_the_log(
    written: str, wait_s: int, remark: str | None, queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    job = queue.enqueue(**hello(f"[[sim:429 retry-after={written}]]"))
    wait_until("the job waits", lambda: job.status().state is JobState.WAITING)

    status = job.status()
    (line,) = worker.events("attempt", job_id=job.id)
    # The job waits as long as it was told, from the answer on; the margin is for reading the clock afterwards.
    assert status.due_ms is not None
    assert 0 < status.due_ms - status.created_ms - wait_s * 1000 < 30_000
    assert (status.attempts, status.reason) == (0, "rate_limited (429): Rate limit exceeded")
    assert (line["outcome"], line["status"], line["wait_s"]) == ("rate_limited", 429, wait_s)
    assert (line["retry_after_remark"] or "").partition(":")[0] == (remark or "")
    assert job.cancel()


def test_a_negative_wait_is_a_second_and_stands_in_the_log(
    queue: MiraQueue, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    job = queue.enqueue(**hello("[[sim:429x1 retry-after=-5]]"))

    assert job.result(TIMEOUT_S).attempts == 1
    line, _ = worker.events("attempt", job_id=job.id)
    assert line["wait_s"] == 1
    assert line["retry_after_remark"].startswith("negative")
    assert simulator.stats()["calls"] == 2
