"""A command takes effect: after a pause, a cancel, an interrupt, a deadline, or a rejection, no call starts.

Real workers have claimed many jobs, and three calls of some seconds are in flight. Calls that would start later than a
second after the command are those that end when its three calls do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from mira_queue import BalanceUsedUp, Job, JobError, JobState, MiraQueue
from mira_queue.contract.batch import BatchStatus
from tests.conftest import StartWorker
from tests.support.batch_steps import end_supervisors
from tests.support.cli_process import Cli
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import ANSWERS, ERRORS, INPUT, RunProcess, prompts, read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

LINES, SLOTS = 200, 3
CALL_S = 2.5
PATIENCE_S = 60
GRACE_S = 60
Command = Callable[[], Any]


@pytest.fixture
def worker(start_worker: StartWorker, simulator: SimulatorProcess) -> WorkerProcess:
    """It claims more jobs than may be in flight."""
    simulator.configure(latency_s=CALL_S, log_calls=True)
    return start_worker(max_in_flight=SLOTS, concurrency=16)


@pytest.fixture
def run(tmp_path: Path, worker: WorkerProcess, simulator: SimulatorProcess, redis_url: str) -> Iterator[Any]:
    """Starts a run whose lines that worker answers, and waits until its calls are in flight."""
    write_lines(tmp_path / INPUT, prompts(LINES))
    processes = []

    def start(*options: str, **settings: Any) -> RunProcess:
        own = {"redis_url": redis_url, "api_base": simulator.url, **settings}
        process = RunProcess.start(tmp_path, INPUT, "--workers", "0", *options, **own)
        processes.append(process)
        in_flight(simulator)
        return process

    yield start
    for process in processes:
        process.__exit__(None, None, None)


@pytest.fixture
def batch(queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Any]:
    """A submitted batch whose calls are in flight."""
    batch_id = queue.batches.submit(write_lines(tmp_path / INPUT, prompts(LINES))).id
    in_flight(simulator)
    yield batch_id
    end_supervisors(queue)


def in_flight(simulator: SimulatorProcess) -> None:
    wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == SLOTS, PATIENCE_S)


def started_late(simulator: SimulatorProcess, since_s: float) -> list[dict[str, Any]]:
    """Return calls that started later than a second after this time, once those that were in flight have ended."""
    wait_until("no call is in flight", lambda: simulator.stats()["in_flight"] == 0, PATIENCE_S)
    wait_until("time passes", lambda: simulator.stats()["uptime_s"] > since_s + 2 * CALL_S, PATIENCE_S)
    return [call for call in simulator.calls() if call["came_s"] > since_s + 1]


def after(simulator: SimulatorProcess, command: Command) -> list[dict[str, Any]]:
    """Give the command; return the calls that it should have prevented."""
    since_s = simulator.stats()["uptime_s"]
    command()
    return started_late(simulator, since_s)


@pytest.mark.parametrize("command", ["pause", "cancel"])
def test_no_call_of_a_batch_starts_after_a_command(
    command: str, batch: str, queue: MiraQueue, simulator: SimulatorProcess
) -> None:
    assert after(simulator, lambda: getattr(queue.batches, command)(batch)) == []

    calls = simulator.stats()["calls"]
    ended = wait_until("it is carried out", lambda: _carried_out(queue, batch))
    assert ended.answered == calls
    assert simulator.stats()["calls"] == calls


def _carried_out(queue: MiraQueue, batch_id: str) -> Any:
    batch = queue.batches.get(batch_id)
    return batch if batch.paused or batch.status is BatchStatus.CANCELLED else None


def test_a_batch_is_paused_though_its_supervisor_is_dead(
    batch: str, queue: MiraQueue, simulator: SimulatorProcess
) -> None:
    """The command itself holds the batch: no supervisor has to run for it."""
    end_supervisors(queue)
    group = queue.ledger.batch(batch).group

    assert after(simulator, lambda: queue.ledger.hold(group)) == []


def test_no_call_of_a_run_starts_after_ctrl_c(run: Any, simulator: SimulatorProcess, tmp_path: Path) -> None:
    process = run()

    assert after(simulator, process.interrupt) == []

    assert process.wait() != 0
    assert len(read_lines(tmp_path / ANSWERS)) == simulator.stats()["calls"]


def test_no_call_of_a_run_starts_after_its_deadline(run: Any, simulator: SimulatorProcess, tmp_path: Path) -> None:
    deadline_s = int(time.time()) + 10
    process = run("--deadline", time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(deadline_s)))
    since_s = simulator.stats()["uptime_s"] + deadline_s - time.time()

    assert started_late(simulator, since_s) == []

    process.wait()
    answered, expired = len(read_lines(tmp_path / ANSWERS)), len(read_lines(tmp_path / ERRORS))
    assert (answered, answered + expired) == (simulator.stats()["calls"], LINES)


def test_a_budget_is_exceeded_by_no_more_than_the_calls_in_flight(
    run: Any, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    process = run("--max-requests", "4")

    process.wait()

    assert 4 <= simulator.stats()["calls"] <= 4 + SLOTS
    assert len(read_lines(tmp_path / ANSWERS)) == simulator.stats()["calls"]


def test_an_account_error_reaches_no_more_calls_than_were_in_flight(
    run: Any, simulator: SimulatorProcess, worker: WorkerProcess
) -> None:
    simulator.configure(balance_calls=SLOTS)
    process = run()

    process.wait()

    rejected = simulator.stats()["by_status"].get("402", 0)
    assert 1 <= rejected <= SLOTS
    assert worker.events("account_rejected", code="balance_used_up")


def test_single_jobs_of_a_rejected_account_fail_without_a_call_and_a_retry_sends_one(
    queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess
) -> None:
    simulator.configure(balance_calls=0, latency_s=0.2)
    jobs = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(30)]

    for job in jobs:
        with pytest.raises(BalanceUsedUp):
            job.result(PATIENCE_S)
    assert 1 <= simulator.stats()["calls"] <= SLOTS

    simulator.configure(balance_calls=1000)
    assert all(job.retry() for job in jobs)
    assert [job.result(PATIENCE_S).finish_reason for job in jobs] == ["stop"] * len(jobs)


def test_ctrl_c_with_nothing_in_flight_ends_a_run_soon_though_the_circuit_breaker_is_open(
    run: Any, simulator: SimulatorProcess, redis_client: Any, worker: WorkerProcess
) -> None:
    process = run(grace=GRACE_S)
    simulator.configure(faults={"503": 1.0})
    wait_until("the breaker is open", lambda: worker.events("breaker_opened", reason="faults"), PATIENCE_S)
    wait_until("nothing is in flight", lambda: simulator.stats()["in_flight"] == 0, PATIENCE_S)

    process.interrupt()
    # It does not wait for the grace period, which is longer. `python -m bench.commands` measures how long it takes.
    process.wait(GRACE_S / 2)

    assert redis_client.keys("mira:job:*") == []


def test_forgetting_the_limits_ends_an_hour_of_waiting(
    queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess, tmp_path: Path, redis_url: str
) -> None:
    job = queue.enqueue([{"role": "user", "content": "[[sim:429x1 retry-after=3600]] Hello"}])
    wait_until("the job waits", lambda: job.status().state is JobState.WAITING)
    another = queue.enqueue([{"role": "user", "content": "Hello"}])
    cli = Cli(tmp_path, redis_url=redis_url, api_base=simulator.url, state_dir=tmp_path / "state")

    assert cli("limits", "--forget").code == 0

    assert another.result(PATIENCE_S).finish_reason == "stop"
    assert job.cancel()


def test_celerys_revoke_cancels_a_job(
    queue: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess, redis_url: str
) -> None:
    job = queue.enqueue([{"role": "user", "content": "[[sim:429 retry-after=30]]"}])
    wait_until("the job waits", lambda: job.status().state is JobState.WAITING)
    flower = Celery("flower", broker=redis_url, backend=redis_url, set_as_current=False)

    flower.control.revoke(job.id)

    wait_until("the job is cancelled", lambda: job.status().state is JobState.CANCELLED)
    assert flower.AsyncResult(job.id).state == "REVOKED"
    with pytest.raises(JobError):
        job.result(PATIENCE_S)


def test_celerys_events_show_failures_and_no_success_of_a_job_that_waits(
    queue: MiraQueue, start_worker: StartWorker, simulator: SimulatorProcess, redis_url: str
) -> None:
    start_worker()
    watcher = Celery("flower", broker=redis_url, set_as_current=False)
    watcher.control.enable_events()
    seen: dict[str, list[str]] = {}
    with watcher.connection() as connection:
        receiver = watcher.events.Receiver(
            connection, handlers={"*": lambda event: seen.setdefault(event.get("uuid", ""), []).append(event["type"])}
        )
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "timeout": None}, daemon=True)
        thread.start()
        wait_until("events of the worker arrive", lambda: seen.get(""), PATIENCE_S)
        # The threads pool loses events: one of many arrives.
        failed = [queue.enqueue([{"role": "user", "content": f"[[sim:400]] {number}"}]) for number in range(40)]
        # Few: the pause between probes doubles while all are rate-limited.
        waits = [queue.enqueue([{"role": "user", "content": f"[[sim:429x1 retry-after=1]] {n}"}]) for n in range(4)]
        answered = [queue.enqueue([{"role": "user", "content": f"Question {number}"}]) for number in range(40)]

        def any_of(jobs: list[Job], event: str) -> bool:
            return any(event in seen.get(each.id, []) for each in jobs)

        wait_until("one has failed", lambda: any_of(failed, "task-failed"), PATIENCE_S)
        wait_until("one has been retried", lambda: any_of(waits, "task-retried"), PATIENCE_S)
        wait_until("one has succeeded", lambda: any_of([*waits, *answered], "task-succeeded"), PATIENCE_S)
        for each in (*waits, *answered):
            each.result(PATIENCE_S)
        receiver.should_stop = True
        thread.join(PATIENCE_S)
    assert not any_of(failed, "task-succeeded")
    assert all(seen.get(each.id, []).count("task-succeeded") <= 1 for each in waits)
