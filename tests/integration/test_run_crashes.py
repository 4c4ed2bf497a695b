"""`mira-queue run` with everything dying around it: its workers, its server, itself. All of them are its own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import MiraQueue
from mira_queue.contract.states import JobState
from mira_queue.ledger.connection import connect
from mira_queue.ledger.embedded import EmbeddedServer
from tests.support.embedded_process import end_server
from tests.support.queue_process import API_KEY
from tests.support.run_process import (
    ANSWERS,
    BATCHES,
    ERRORS,
    OWN_KEYS,
    RunProcess,
    ids,
    read_lines,
    run_to_the_end,
    write_lines,
)
from tests.support.run_restart import restart
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

INPUT = "input.jsonl"


@pytest.fixture
def folder(short_folder: Path) -> Iterator[Path]:
    """Where a run has everything, its embedded server too, which is ended if a killed run has left it."""
    path = Path(tempfile.mkdtemp(dir=short_folder))
    yield path
    for state in (path / "state", path / "state" / "simulated"):
        if state.exists():
            end_server(state)


def server_pid(folder: Path) -> int:
    return wait_until("the embedded server runs", EmbeddedServer(folder / "state").running_pid)


def jobs_left(folder: Path) -> list[bytes]:
    """What the ledger of a run's embedded server holds for ever.

    A run that dies between writing a line and forgetting its job leaves that job behind, which then expires.
    """
    with EmbeddedServer(folder / "state") as url, connect(url) as client:
        found: list[bytes] = client.keys("mira:*")
        return [key for key in found if client.ttl(key) == -1 and not key.startswith((BATCHES, *OWN_KEYS))]


def numbered(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": str(number), "prompt": f"Question {number}"} for number in range(count)]


# All that the simulator can do to a call and that ends, by the line's number.
FAULTS = (
    *["[[sim:400]]", "[[sim:404]]", "[[sim:410]]", "[[sim:413]]", "[[sim:422]]", "[[sim:moderation]]", "[[sim:418]]"],
    *["[[sim:408x1]]", "[[sim:500x1]]", "[[sim:502x2]]", "[[sim:503]]", "[[sim:html502x1]]", "[[sim:text500x1]]"],
    *["[[sim:empty503x1]]", "[[sim:openai500]]", "[[sim:html200x1]]", "[[sim:emptyobjectx1]]", "[[sim:notjson]]"],
    *["[[sim:truncatex1]]", "[[sim:resetx1]]", "[[sim:closex1]]", "[[sim:reset]]", "[[sim:huge bytes=1100000]]"],
    *["[[sim:redirect to=127.0.0.1:9]]", "[[sim:openai400]]", "[[sim:503x1]] [[sim:resetx1]]", "[[sim:slow=0.2]]"],
)
REFUSALS = ("rate", "quota", "concurrency", "busy")
# Every so many lines a limit is met, which all the others wait out.
REFUSED_EVERY = 200


def faulty(number: int) -> str:
    if number % REFUSED_EVERY == 0:
        return f"[[sim:{REFUSALS[number // REFUSED_EVERY % len(REFUSALS)]}x1 retry-after=0.2]]"
    return FAULTS[number % len(FAULTS)] if number % 2 else ""


def test_a_thousand_lines_with_a_mix_of_all_faults_end_as_a_thousand_lines_though_the_run_is_killed_in_the_middle(
    folder: Path, simulator: SimulatorProcess
) -> None:
    entries = [{"custom_id": str(number), "prompt": f"{number} {faulty(number)}"} for number in range(1000)]
    write_lines(folder / INPUT, entries)
    settings: dict[str, Any] = {"api_base": simulator.url, "concurrency": 16}
    with RunProcess.start(folder, INPUT, **settings) as killed:
        wait_until("half of the lines are written", lambda: len(read_lines(folder / ANSWERS)) > 350)
        killed.kill()
        assert len(read_lines(folder / ANSWERS)) + len(read_lines(folder / ERRORS)) < 1000

    run = run_to_the_end(folder, INPUT, **settings)

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(folder / ANSWERS), read_lines(folder / ERRORS)
    assert ids([*answers, *errors]) == ids(entries)
    failing = {
        str(number)
        for number in range(1000)
        if (text := faulty(number)) and "x1" not in text and "x2" not in text and "slow" not in text
    }
    assert {line["custom_id"] for line in errors} == failing
    assert all(line["error"]["code"] and line["error"]["message"] for line in errors)
    assert all(line["response"]["body"]["object"] == "chat.completion" for line in answers)
    assert jobs_left(folder) == []


def test_a_run_that_is_killed_goes_on_at_once_and_loses_and_doubles_nothing(folder: Path) -> None:
    result = restart(folder, lines=600, kill_at=200, concurrency=8)

    assert (result.missing, result.doubled, result.exit_code) == (0, 0, 0)
    # Nobody has to wait for leases of the dead, nor for a server that has nobody.
    assert result.repeated_calls <= 8
    assert result.left_in_ledger == 0


def test_a_worker_that_is_killed_is_replaced_and_the_run_completes(folder: Path, simulator: SimulatorProcess) -> None:
    write_lines(folder / INPUT, numbered(150))
    simulator.configure(latency_s=0.2)
    with RunProcess.start(folder, INPUT, api_base=simulator.url, resend_after=1) as run:
        wait_until("it is under way", lambda: len(read_lines(folder / ANSWERS)) > 10)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] > 0)
        [pid] = run.worker_pids()
        os.kill(pid, signal.SIGKILL)
        code = run.wait()

    assert code == 0, run.said()
    assert "exit code -9" in run.said()
    assert ids(read_lines(folder / ANSWERS)) == ids(numbered(150))
    lost = run.summary()["unanswered_calls"]
    assert lost <= 8
    assert simulator.stats()["calls"] <= 150 + lost


def test_a_run_completes_when_its_embedded_server_is_killed(folder: Path, simulator: SimulatorProcess) -> None:
    write_lines(folder / INPUT, numbered(200))
    simulator.configure(latency_s=0.05)
    with RunProcess.start(folder, INPUT, api_base=simulator.url) as run:
        for answers in (20, 80):
            wait_until("it is under way", lambda least=answers: len(read_lines(folder / ANSWERS)) > least)  # type: ignore[misc]
            os.kill(server_pid(folder), signal.SIGKILL)
        code = run.wait()

    assert code == 0, run.said()
    assert ids(read_lines(folder / ANSWERS)) == ids(numbered(200))
    assert jobs_left(folder) == []


def test_a_second_interrupt_does_not_wait_for_calls_in_flight_and_the_next_run_makes_them_again(
    folder: Path, simulator: SimulatorProcess
) -> None:
    write_lines(folder / INPUT, numbered(40))
    simulator.configure(latency_s=100, answer_timeout_s=None)
    with RunProcess.start(folder, INPUT, api_base=simulator.url, grace=90) as run:
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] == 8)
        run.interrupt()
        wait_until("it says that it stops", lambda: "stopping" in run.said())
        run.interrupt()
        # Neither the call nor the grace period would have ended by then.
        code = run.wait(60)

    assert code == 130, run.said()
    assert "answered: 0 of 40 in answers.jsonl" in run.said()
    assert "calls whose answer was lost, and which may have been billed: 8" in run.said()
    assert "interrupted: run the same command again" in run.said()
    simulator.configure(latency_s=0)
    again = run_to_the_end(folder, INPUT, api_base=simulator.url)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(folder / ANSWERS)) == ids(numbered(40))
    assert simulator.stats()["calls"] == 48
    assert again.summary()["unanswered_calls"] == 8


def test_an_interrupt_while_the_workers_are_stopped_hurries_them_and_leaves_the_summary(
    folder: Path, redis_url: str, simulator: SimulatorProcess
) -> None:
    write_lines(folder / INPUT, numbered(3))
    simulator.configure(answer_timeout_s=None)
    with MiraQueue(redis_url=redis_url, api_key=API_KEY, api_base=simulator.url) as queue:
        # Somebody else's job, which a worker of the run takes, and which outlasts the run.
        job = queue.enqueue([{"role": "user", "content": "[[sim:slow=100]]"}])
        with RunProcess.start(folder, INPUT, redis_url=redis_url, api_base=simulator.url, grace=90) as run:
            wait_until("its workers are told to end", lambda: "stopping" in worker_log(folder))
            run.interrupt()
            code = run.wait(60)
        assert job.cancel()

    assert code == 0, run.said()
    assert "answered: 3 of 3 in answers.jsonl" in run.said()


def worker_log(folder: Path) -> str:
    path = folder / "state" / "worker.log"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_a_simulated_run_leaves_the_real_queue_alone(
    tmp_path: Path, short_folder: Path, redis_url: str, simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    state = short_folder / "real"
    with MiraQueue(redis_url=redis_url, api_key=API_KEY) as real:
        job = real.enqueue([{"role": "user", "content": "A real question"}])
        before = redis_client.dbsize()
        write_lines(tmp_path / INPUT, numbered(5))

        run = run_to_the_end(
            tmp_path,
            INPUT,
            "--simulate",
            "--simulator-options",
            "--latency 0.001",
            redis_url=redis_url,
            result_backend=redis_url,
            api_base=simulator.url,
            api_key=None,
            state_dir=state,
        )

        assert run.wait() == 0, run.said()
        assert job.status().state is JobState.QUEUED
        assert redis_client.dbsize() == before
        assert job.cancel()
    assert simulator.stats()["calls"] == 0
    assert "the simulator" in run.said()
    assert "no real answers" in run.said()
    assert {path.name for path in state.iterdir()} <= {"simulated", "worker.log"}
    assert len(read_lines(tmp_path / ANSWERS)) == 5
