"""`mira-queue run` stopped by the account or a person, and going on. The work is done by a worker of the module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from mira_queue import MiraQueue
from mira_queue.contract.states import JobState
from tests.support.run_process import (
    ANSWERS,
    ERRORS,
    INPUT,
    RunProcess,
    answered_calls,
    ids,
    keys,
    prompts,
    read_lines,
    run_to_the_end,
    write_lines,
)
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

# --- 3: the account ---

REFUSALS: dict[int, tuple[dict[str, Any], dict[str, Any]]] = {
    401: ({"keys": ["sk-mira-of-somebody-else"]}, {"keys": None}),
    402: ({"balance_calls": 0}, {"balance_calls": None}),
    403: ({"plans": {"max": ["mira-pro"]}}, {"plans": {"max": ["mira", "mira-pro"]}}),
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_of_the_account_stops_the_run_which_goes_on_once_it_is_mended(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis, status: int
) -> None:
    refuse, mend = REFUSALS[status]
    write_lines(tmp_path / INPUT, prompts(300))
    simulator.configure(latency_s=0.02)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 20)
        simulator.configure(**refuse)
        code = run.wait()

    assert code == 3, run.said()
    done = read_lines(tmp_path / ANSWERS)
    refused = simulator.stats()["by_status"][str(status)]
    assert len(done) == simulator.stats()["answered"] < 300
    # Nothing beyond the window of open jobs, and of that only what the worker made before it was withdrawn.
    assert refused < 200
    stored = read_lines(tmp_path / ERRORS)
    assert (len(stored), run.summary()["failed"]) == (refused, refused)
    assert {line["response"]["status_code"] for line in stored} == {status}
    assert all(line["error"]["runs_again"] is True and line["response"]["body"]["detail"] for line in stored)
    assert f"{300 - len(done)} lines pending, {refused} of them in {ERRORS}" in run.said()
    assert f"stopped by the account: {run.summary()['reason']}" in run.said()
    assert f"({status})" in run.summary()["reason"]
    assert keys(redis_client) == []

    simulator.configure(**mend)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert f"{300 - len(done)} of 300 requests" in again.said()
    assert read_lines(tmp_path / ANSWERS)[: len(done)] == done
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))
    assert not (tmp_path / ERRORS).exists()
    assert again.summary()["failed"] == 0
    assert set(answered_calls(simulator).values()) == {1}


def test_a_refusal_that_a_killed_run_has_left_behind_does_not_stop_the_next_one(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, queue: MiraQueue, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(8, suffix=" [[sim:401x1]] [[sim:slow=1]]"))
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] > 0)
        run.kill()
    found: list[Any] = redis_client.keys("mira:job:*")
    jobs = [key.decode().removeprefix("mira:job:") for key in found]
    wait_until(
        "the worker has stored the refusals",
        lambda: all(queue.job(job).status().state is JobState.FAILED for job in jobs),
    )

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(8))
    assert keys(redis_client) == []


def test_a_model_that_the_plan_lacks_holds_back_only_its_own_lines(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    lines = [{**line, "model": "mira-max"} if number % 3 == 0 else line for number, line in enumerate(prompts(300))]
    write_lines(tmp_path / INPUT, lines)
    simulator.configure(plans={"max": ["mira"]})

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 3, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(line for line in lines if "model" not in line)
    stored = {line["custom_id"] for line in read_lines(tmp_path / ERRORS)}
    assert stored <= {line["custom_id"] for line in lines if "model" in line}
    assert len(stored) == simulator.stats()["by_status"]["403"] < 100
    assert "the account's plan lacks the model 'mira-max'" in run.said()
    assert "(403)" in run.summary()["reason"]
    assert keys(redis_client) == []

    simulator.configure(plans={"max": ["mira", "mira-max"]})
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(lines)


def test_a_run_that_shall_fail_on_the_accounts_errors_notes_one_for_each_line(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(40))
    simulator.configure(balance_calls=10)

    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--on-account-error", "fail", **target)

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)
    assert (len(answers), ids([*answers, *errors])) == (10, ids(prompts(40)))
    assert {(line["error"]["code"], line["response"]["status_code"]) for line in errors} == {("balance_used_up", 402)}
    assert keys(redis_client) == []

    # Their errors are for good: also a run that would pause leaves them.
    simulator.configure(balance_calls=None)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)
    assert again.wait() == 1, again.said()
    assert (read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)) == (answers, errors)


# --- 130: interrupted ---


def test_the_first_interrupt_lets_calls_in_flight_finish_and_withdraws_the_rest(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, redis_client: redis.Redis
) -> None:
    write_lines(tmp_path / INPUT, prompts(300))
    simulator.configure(latency_s=0.5)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) >= 8)
        wait_until("calls are in flight", lambda: simulator.stats()["in_flight"] > 0)
        run.interrupt()
        code = run.wait()

    assert code == 130, run.said()
    assert "interrupted: run the same command again" in run.said()
    done = read_lines(tmp_path / ANSWERS)
    stats = simulator.stats()
    assert len(done) == stats["answered"] == stats["calls"] < 300
    assert stats["client_gone"] == 0
    assert keys(redis_client) == []

    # Lines that were changed meanwhile: the answered one keeps its answer, the other is sent as it is now.
    open_id = next(line["custom_id"] for line in prompts(300) if line["custom_id"] not in ids(done))
    changed = [
        {**line, "prompt": "Changed"} if line["custom_id"] in (open_id, done[0]["custom_id"]) else line
        for line in prompts(300)
    ]
    write_lines(tmp_path / INPUT, changed)
    simulator.configure(latency_s=0)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", "--changed", "keep", **target)

    assert again.wait() == 0, again.said()
    assert read_lines(tmp_path / ANSWERS)[: len(done)] == done
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(300))
    assert answered_calls(simulator).pop("Changed") == 1
    assert set(answered_calls(simulator).values()) == {1}


def test_a_line_whose_job_was_cancelled_after_its_run_was_killed_is_sent_by_the_next(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess, queue: MiraQueue, redis_client: redis.Redis
) -> None:
    simulator.configure(latency_s=1)
    write_lines(tmp_path / INPUT, prompts(60))
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("all lines are submitted", lambda: len(redis_client.keys("mira:job:*")) == 60)
        run.kill()
    found: list[Any] = redis_client.keys("mira:job:*")
    jobs = [key.decode().removeprefix("mira:job:") for key in found]
    assert sum(queue.ledger.cancel(job) for job in jobs if queue.ledger.status(job).state is JobState.QUEUED) > 0
    simulator.configure(latency_s=0)

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(60))
