"""A run obeys commands from another terminal, and shows there what it does: `mira-queue run` is a batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from mira_producer.batches.client import BatchRefused

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchStatus
from tests.support.cli_process import Cli
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

LINES = 300


@pytest.fixture
def cli(target: dict[str, Any], tmp_path: Path, simulator: SimulatorProcess) -> Cli:
    """The other terminal, on the state directory of the run."""
    write_lines(tmp_path / INPUT, prompts(LINES))
    simulator.configure(latency_s=0.3)
    return Cli(tmp_path, **target, state_dir=tmp_path / "state")


@pytest.fixture
def run(tmp_path: Path, target: dict[str, Any], cli: Cli) -> Any:
    """A run that has some answers."""
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as process:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 5)
        yield process


def paused(run: RunProcess, cli: Cli) -> dict[str, Any]:
    """Pause the run; return its batch when it is paused."""
    assert cli("pause", run.batch_id()).code == 0
    wait_until("the run says that it is paused", lambda: "paused by a command" in run.said())
    [batch] = cli("status", run.batch_id(), "--json").json
    return dict(batch)


def test_a_run_pauses_and_resumes_on_commands(
    run: RunProcess, cli: Cli, simulator: SimulatorProcess, tmp_path: Path, queue: MiraQueue
) -> None:
    batch = paused(run, cli)

    calls = simulator.stats()["calls"]
    assert batch["mira"]["paused_by"] == "owner"
    assert batch["request_counts"]["completed"] == len(read_lines(tmp_path / ANSWERS)) == calls < LINES
    simulator.configure(latency_s=0)
    assert run.batch_id() in cli("batches").out
    assert (simulator.stats()["calls"], run.is_running) == (calls, True)

    assert cli("resume", run.batch_id()).code == 0
    assert run.wait() == 0, run.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(LINES))
    assert set(answered_calls(simulator).values()) == {1}
    assert run.summary()["answered"] == LINES
    ended = queue.batches.get(run.batch_id())
    assert (ended.status, ended.answered, ended.total) == (BatchStatus.COMPLETED, LINES, LINES)


def test_a_run_that_is_cancelled_ends_and_names_the_lines_that_were_not_run(
    run: RunProcess, cli: Cli, simulator: SimulatorProcess, tmp_path: Path, redis_client: Any, target: dict[str, Any]
) -> None:
    # On a busy machine, the lines must last longer than the start of the command.
    simulator.configure(latency_s=3)
    assert cli("cancel", run.batch_id()).code == 0

    assert run.wait() == 1, run.said()
    answers, errors = read_lines(tmp_path / ANSWERS), read_lines(tmp_path / ERRORS)
    assert ids([*answers, *errors]) == ids(prompts(LINES))
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert len(answers) == simulator.stats()["calls"]
    assert run.summary()["codes"] == {"batch_cancelled": len(errors)}
    [batch] = cli("status", run.batch_id(), "--json").json
    assert (batch["status"], batch["request_counts"]["failed"]) == ("cancelled", len(errors))
    assert keys(redis_client) == []

    # Cancelled lines run again as other failed lines do.
    simulator.configure(latency_s=0)
    (tmp_path / ERRORS).unlink()
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)
    assert again.wait() == 0, again.said()
    assert again.batch_id() == run.batch_id()
    assert cli("status", run.batch_id(), "--json").json[0]["status"] == "completed"


def test_a_paused_run_is_interrupted_and_resumed_by_the_same_command(
    run: RunProcess, cli: Cli, simulator: SimulatorProcess, tmp_path: Path, target: dict[str, Any]
) -> None:
    paused(run, cli)
    run.interrupt()
    assert run.wait() == 130, run.said()

    [batch] = cli("status", run.batch_id(), "--json").json
    assert (batch["status"], batch["mira"]["paused_by"]) == ("in_progress", "interrupt")
    refused = cli("resume", run.batch_id())
    assert (refused.code, "run the same command again" in refused.err) == (1, True)
    simulator.configure(latency_s=0)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(LINES))
    assert set(answered_calls(simulator).values()) == {1}


def test_a_run_whose_process_was_killed_says_how_to_resume_it(
    run: RunProcess, cli: Cli, simulator: SimulatorProcess, tmp_path: Path, target: dict[str, Any]
) -> None:
    run.kill()

    [batch] = cli("status", run.batch_id(), "--watch", "--json").json
    assert (batch["status"], batch["mira"]["paused_by"]) == ("in_progress", "process")
    for command in ("pause", "resume", "cancel", "retry"):
        assert cli(command, run.batch_id()).code == 1
    simulator.configure(latency_s=0)
    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(LINES))


def test_results_and_report_of_a_run_are_those_of_its_files(
    run: RunProcess, cli: Cli, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    paused(run, cli)

    saved = cli("results", run.batch_id(), "-o", "copy.jsonl")
    drawn = cli("report", run.batch_id(), "-o", "report.html")

    assert (saved.code, drawn.code) == (0, 0), saved.err + drawn.err
    assert read_lines(tmp_path / "copy.jsonl") == read_lines(tmp_path / ANSWERS)
    assert "mira-queue run</title>" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_failed_lines_of_a_run_are_retried_while_it_runs(
    tmp_path: Path, target: dict[str, Any], cli: Cli, simulator: SimulatorProcess
) -> None:
    lines = prompts(LINES)
    lines[0]["prompt"] += " [[sim:400x1]]"
    write_lines(tmp_path / INPUT, lines)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("a line has failed", lambda: read_lines(tmp_path / ERRORS))

        wait_until("the retry is accepted", lambda: cli("retry", run.batch_id()).code == 0)

        wait_until("the line is answered", lambda: lines[0]["custom_id"] in ids(read_lines(tmp_path / ANSWERS)))
        simulator.configure(latency_s=0)
        assert run.wait() == 0, run.said()
    assert Counter(ids(read_lines(tmp_path / ANSWERS))) == Counter(ids(lines))


def test_an_account_error_ends_a_run_and_is_the_reason_of_its_batch(
    tmp_path: Path, target: dict[str, Any], cli: Cli, simulator: SimulatorProcess, queue: MiraQueue
) -> None:
    simulator.configure(balance_calls=5, latency_s=0)
    run = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert run.wait() == 3, run.said()
    batch = queue.batches.get(run.batch_id())
    assert (batch.status, batch.paused_by, "402" in batch.paused) == (BatchStatus.IN_PROGRESS, "account", True)
    with pytest.raises(BatchRefused, match="run the same command again"):
        queue.batches.resume(run.batch_id())


def test_a_simulated_run_is_found_in_the_queue_of_its_own(tmp_path: Path, short_folder: Path) -> None:
    write_lines(tmp_path / INPUT, prompts(LINES))
    options = ["--simulate", "--simulator-options", "--latency 0.3"]
    state = short_folder / "simulated-run"
    terminal = Cli(tmp_path, state_dir=state, api_key=None)
    with RunProcess.start(tmp_path, INPUT, *options, files=True, state_dir=state) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 5)
        batch = paused(run, terminal)
        assert run.batch_id().startswith("batch_simulated_")
        assert batch["request_counts"]["completed"] == len(read_lines(tmp_path / ANSWERS)) < LINES
        assert run.batch_id() in terminal("batches").out
        assert terminal("cancel", run.batch_id()).code == 0
        assert run.wait() == 1, run.said()
    assert terminal("status", run.batch_id(), "--json").json[0]["status"] == "cancelled"
