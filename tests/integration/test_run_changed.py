"""`mira-queue run` on lines and files that change: an answer belongs to its request, and a written line is not lost."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchOptions, BatchStatus
from tests.support.batch_steps import at, entries, every_line_once, paused, results, submitted
from tests.support.cli_process import Call, Cli
from tests.support.queue_process import WorkerProcess
from tests.support.run_process import (
    ANSWERS,
    ERRORS,
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

FILES = ("--output", ANSWERS, "--errors", ERRORS, "--workers", "0")


@pytest.fixture
def here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: dict[str, Any]
) -> Call:
    """A command in the test's folder, without a process of its own."""
    return Cli(tmp_path, state_dir=tmp_path / "state", **target).here(monkeypatch, capsys)


def test_answers_of_another_input_are_listed_and_the_user_chooses(
    tmp_path: Path, here: Call, simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, [{"prompt": f"A{number}"} for number in range(12)])
    assert here("run", INPUT, *FILES)[0] == 0
    before = (tmp_path / ANSWERS).read_bytes()
    # All lines but the last are others now, and one is new.
    write_lines(
        tmp_path / INPUT, [*({"prompt": f"B{number}"} for number in range(11)), {"prompt": "A11"}, {"prompt": "C"}]
    )

    code, out, err = here("run", INPUT, *FILES)
    assert (code, out) == (2, "")
    assert "11 answered lines" in err
    assert "1, 2, 3" in err
    assert "--changed rerun" in err
    assert ((tmp_path / ANSWERS).read_bytes(), simulator.stats()["calls"]) == (before, 12)

    assert here("run", INPUT, *FILES, "--changed", "keep")[0] == 0
    assert (tmp_path / ANSWERS).read_bytes().startswith(before)
    code, out, _ = here("verify", INPUT, ANSWERS)
    assert (code, "11 changed" in out) == (1, True)

    assert here("run", INPUT, *FILES, "--changed", "rerun")[0] == 0
    assert here("verify", INPUT, ANSWERS)[0] == 0
    assert set(answered_calls(simulator).values()) == {1}
    assert simulator.stats()["calls"] == 12 + 1 + 11
    assert len(read_lines(tmp_path / f"{ANSWERS}.replaced")) == 11


def test_a_changed_line_that_gets_an_error_after_the_deadline_has_no_answer_any_more(
    tmp_path: Path, here: Call, simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(3))
    assert here("run", INPUT, *FILES)[0] == 0
    changed, *others = prompts(3)
    write_lines(tmp_path / INPUT, [{**changed, "prompt": "Changed"}, *others])

    assert here("run", INPUT, *FILES, "--changed", "rerun", "--deadline", "2020-01-01T00:00")[0] == 1

    assert ids(read_lines(tmp_path / ANSWERS)) == ids(others)
    assert ids(read_lines(tmp_path / ERRORS)) == ids(read_lines(tmp_path / f"{ANSWERS}.replaced")) == ids([changed])
    assert simulator.stats()["calls"] == 3


def test_an_editor_that_replaces_the_output_file_ends_the_run_and_no_answer_is_lost(
    tmp_path: Path, target: dict[str, Any], simulator: SimulatorProcess
) -> None:
    write_lines(tmp_path / INPUT, prompts(100))
    simulator.configure(latency_s=0.05)
    with RunProcess.start(tmp_path, INPUT, "--workers", "0", **target) as run:
        wait_until("some lines are answered", lambda: len(read_lines(tmp_path / ANSWERS)) > 20)
        subprocess.run(["sed", "-i", "s/nothing/nothing/", ANSWERS], cwd=tmp_path, check=True)
        code = run.wait()

    assert code == 3, run.said()
    assert f"{ANSWERS}.saved" in run.said()
    saved = read_lines(tmp_path / f"{ANSWERS}.saved")
    assert set(ids(read_lines(tmp_path / ANSWERS))) <= set(ids(saved))
    (tmp_path / f"{ANSWERS}.saved").rename(tmp_path / ANSWERS)
    simulator.configure(latency_s=0)

    again = run_to_the_end(tmp_path, INPUT, "--workers", "0", **target)

    assert again.wait() == 0, again.said()
    assert read_lines(tmp_path / ANSWERS)[: len(saved)] == saved
    assert ids(read_lines(tmp_path / ANSWERS)) == ids(prompts(100))
    assert set(answered_calls(simulator).values()) == {1}


def test_a_batch_whose_input_has_changed_pauses_until_its_owner_chooses(
    batches: MiraQueue, worker: WorkerProcess, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(latency_s=0.1)
    batch_id = submitted(batches, tmp_path, entries(60))
    files = batches.batches.spool.files(batch_id)
    wait_until("some lines are answered", lambda: len(read_lines(files.output)) > 3)
    batches.batches.pause(batch_id)
    assert paused(batches, batch_id) == "by a command"
    wait_until("its files are closed", lambda: batches.ledger.command_of(batch_id) is None)
    simulator.configure(latency_s=0)
    calls = simulator.stats()["calls"]
    write_lines(files.input, entries(60, mark="now"))

    batches.batches.resume(batch_id)
    wait_until("it pauses", lambda: batches.ledger.batch(batch_id).paused_by == "files")
    assert "--changed rerun" in batches.ledger.batch(batch_id).paused
    assert simulator.stats()["calls"] == calls

    batches.batches.resume(batch_id, changed="rerun")

    batch = at(batches, batch_id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch_id, tmp_path), 60)
    assert (batch.answered, batch.options.changed) == (60, "rerun")
    assert simulator.stats()["calls"] == calls + 60


def test_a_wrong_choice_is_an_error(batches: MiraQueue, tmp_path: Path) -> None:
    write_lines(tmp_path / INPUT, entries(1))

    with pytest.raises(Exception, match="changed: expected rerun or keep"):
        batches.batches.submit(tmp_path / INPUT, options=BatchOptions(changed="both"))  # type: ignore[arg-type]
