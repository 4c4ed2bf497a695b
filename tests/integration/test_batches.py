"""Batches: a supervisor runs them to their end, whatever is done to them on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import orjson
import pytest
from mira_producer.batches.client import BatchRefused

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchOptions, BatchStatus
from mira_queue.contract.errors import BatchNotFound
from tests.support.batch_steps import (
    LINES,
    at,
    entries,
    every_line_once,
    paused,
    results,
    submitted,
    supervisors,
)
from tests.support.run_process import read_lines, write_lines
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("worker")


def test_a_batch_is_brought_to_its_end_though_its_submitter_does_nothing_more(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    lines = entries()
    lines[7]["prompt"] = "[[sim:moderation]]"
    # The answer to it says nothing of tokens.
    lines[8]["stream"] = True
    batch_id = submitted(batches, tmp_path, lines)
    (tmp_path / "input.jsonl").unlink()

    batch = at(batches, batch_id, BatchStatus.COMPLETED)

    assert (batch.total, batch.answered, batch.failed) == (LINES, LINES - 1, 1)
    answers, errors = results(batches, batch_id, tmp_path)
    every_line_once(answers, errors)
    assert list(errors) == ["line-7"]
    shown = batch.to_object()
    assert shown["object"] == "batch"
    assert shown["request_counts"] == {"total": LINES, "completed": LINES - 1, "failed": 1}
    assert shown["metadata"] == {"for": "a test"}
    bodies = [line["response"]["body"] for line in read_lines(tmp_path / "output.jsonl")]
    usage = [body["usage"] for body in bodies if "usage" in body]
    assert shown["mira"]["answers_without_usage"] == len(bodies) - len(usage) == 1
    assert shown["usage"]["total_tokens"] == sum(each["total_tokens"] for each in usage)
    assert shown["in_progress_at"] <= shown["finalizing_at"] <= shown["completed_at"]
    assert [each.id for each in batches.batches.all()] == [batch_id]


def test_a_file_with_wrong_lines_is_a_failed_batch_that_names_them(batches: MiraQueue, tmp_path: Path) -> None:
    batch_id = submitted(batches, tmp_path, [*entries(3), {"custom_id": "line-1", "prompt": "again"}, {"prompt": 7}])

    batch = at(batches, batch_id, BatchStatus.FAILED)

    found = [(each.path, each.line, each.field, each.code) for each in batch.errors]
    assert found == [
        ("input.jsonl", 4, "custom_id", "duplicate_custom_id"),
        ("input.jsonl", 5, "prompt", "invalid_request"),
    ]
    with pytest.raises(BatchRefused, match="input is wrong"):
        batches.batches.retry(batch_id)


def test_a_failed_batch_lists_all_its_problems_and_is_not_cut_to_fit_a_screen(
    batches: MiraQueue, tmp_path: Path
) -> None:
    batch_id = submitted(batches, tmp_path, [*entries(1), *({"prompt": 7} for _ in range(150))])

    shown = at(batches, batch_id, BatchStatus.FAILED).to_object()

    assert [each["line"] for each in shown["errors"]["data"]] == list(range(2, 152))
    assert shown["mira"]["errors_left_out"] == 0


def partly_answered(queue: MiraQueue, simulator: SimulatorProcess, folder: Path, count: int) -> str:
    """Submit the usual lines to a slow API. Return the batch's id when more than `count` lines are answered."""
    simulator.configure(latency_s=0.5)
    batch_id = submitted(queue, folder, entries())
    wait_until("some are answered", lambda: queue.batches.get(batch_id).answered > count)
    return batch_id


def test_a_paused_batch_waits_and_a_resumed_one_goes_on(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = partly_answered(batches, simulator, tmp_path, 5)

    batches.batches.pause(batch_id)

    assert "command" in paused(batches, batch_id)
    seen = simulator.stats()["calls"]
    simulator.configure(latency_s=0)
    assert simulator.stats()["calls"] == seen
    batches.batches.resume(batch_id)
    at(batches, batch_id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch_id, tmp_path))


def test_an_account_that_refuses_pauses_the_batch_and_burns_nothing(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(balance_calls=50)
    batch_id = submitted(batches, tmp_path, entries())

    assert "402" in paused(batches, batch_id)
    seen = simulator.stats()["calls"]
    batch = batches.batches.get(batch_id)
    assert (batch.answered, batch.codes) == (50, {"balance_used_up (402)": seen - 50})
    answers, errors = results(batches, batch_id, tmp_path)
    assert (answers.total(), errors.total(), (answers + errors).total()) == (50, seen - 50, len(answers + errors))
    stored = read_lines(tmp_path / "errors.jsonl")[0]
    assert stored["response"] == {
        "status_code": 402,
        "request_id": None,
        "body": {"detail": "Insufficient balance"},
    }
    assert stored["error"]["runs_again"] is True

    batches.batches.resume(batch_id)
    wait_until("it has tried", lambda: simulator.stats()["calls"] > seen)
    assert "402" in paused(batches, batch_id)
    assert simulator.stats()["calls"] == seen + 1
    assert results(batches, batch_id, tmp_path)[1].total() == 1
    assert batches.batches.get(batch_id).failed == 1

    simulator.configure(balance_calls=None)
    batches.batches.resume(batch_id)
    batch = at(batches, batch_id, BatchStatus.COMPLETED)
    assert (batch.answered, batch.codes) == (LINES, {})
    every_line_once(*results(batches, batch_id, tmp_path))


def test_a_batch_whose_every_line_was_refused_is_paused_and_not_at_its_end(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(balance_calls=0, latency_s=0.2)
    batch_id = submitted(batches, tmp_path, entries(3))

    assert "402" in paused(batches, batch_id)
    batch = batches.batches.get(batch_id)
    assert (batch.status, batch.failed) == (BatchStatus.IN_PROGRESS, simulator.stats()["calls"])

    simulator.configure(balance_calls=None)
    batches.batches.resume(batch_id)
    assert at(batches, batch_id, BatchStatus.COMPLETED).answered == 3


def test_failed_lines_are_tried_again_by_their_status(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    lines = entries(20)
    lines[3]["prompt"] = "[[sim:500x3]]"
    lines[4]["prompt"] = "[[sim:moderation]]"
    batch_id = submitted(batches, tmp_path, lines)
    assert at(batches, batch_id, BatchStatus.COMPLETED).failed == 2

    batches.batches.retry(batch_id, ["5xx"])

    wait_until("it is answered", lambda: batches.batches.get(batch_id).answered == 19)
    assert at(batches, batch_id, BatchStatus.COMPLETED).failed == 1
    answers, errors = results(batches, batch_id, tmp_path)
    every_line_once(answers, errors, 20)
    assert list(errors) == ["line-4"]


def test_killed_supervisors_are_followed_by_others_and_every_line_comes_once(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(latency_s=0.05)
    batch_id = submitted(batches, tmp_path, entries(600))
    for more in (50, 200, 350):

        def answered(more: int = more) -> bool:
            return batches.batches.get(batch_id).answered > more

        wait_until("some are answered", answered)
        for pid in supervisors(batches):
            os.kill(pid, signal.SIGKILL)
        wait_until("no supervisor is left", lambda: not supervisors(batches))
        # Whoever asks for the batch starts another.

    at(batches, batch_id, BatchStatus.COMPLETED)
    every_line_once(*results(batches, batch_id, tmp_path), 600)


def test_a_cancelled_batch_names_the_lines_that_were_not_run(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = partly_answered(batches, simulator, tmp_path, 3)

    batches.batches.cancel(batch_id)

    at(batches, batch_id, BatchStatus.CANCELLED)
    answers, errors = results(batches, batch_id, tmp_path)
    every_line_once(answers, errors)
    codes = {orjson.loads(line)["error"]["code"] for line in (tmp_path / "errors.jsonl").read_bytes().splitlines()}
    assert codes == {"batch_cancelled"}
    with pytest.raises(BatchRefused, match="has ended"):
        batches.batches.pause(batch_id)


def test_commands_in_quick_succession_are_all_binding(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    batch_id = partly_answered(batches, simulator, tmp_path, 3)

    batches.batches.pause(batch_id)
    batches.batches.resume(batch_id)
    batches.batches.pause(batch_id)
    assert "command" in paused(batches, batch_id)
    batches.batches.cancel(batch_id)
    for command in (batches.batches.resume, batches.batches.pause, batches.batches.retry):
        with pytest.raises(BatchRefused):
            command(batch_id)

    at(batches, batch_id, BatchStatus.CANCELLED)
    every_line_once(*results(batches, batch_id, tmp_path))


def test_each_of_two_retries_runs_its_lines(batches: MiraQueue, tmp_path: Path) -> None:
    kinds = ("400", "404")
    lines = [{"custom_id": f"{kind}-{n}", "prompt": f"[[sim:{kind}x1]] {n}"} for kind in kinds for n in range(3)]
    batch_id = submitted(batches, tmp_path, lines)
    assert at(batches, batch_id, BatchStatus.COMPLETED).failed == len(lines)

    for kind in kinds:
        batches.batches.retry(batch_id, [kind])

    wait_until("all are answered", lambda: batches.batches.get(batch_id).answered == len(lines))
    assert at(batches, batch_id, BatchStatus.COMPLETED).failed == 0


def test_a_batch_pauses_when_its_budget_is_used_up(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries())
    options = BatchOptions(max_requests=20, ordered=True)
    batch_id = batches.batches.submit(tmp_path / "input.jsonl", options=options).id

    assert "20" in paused(batches, batch_id)

    assert batches.batches.get(batch_id).answered == 20
    assert simulator.stats()["calls"] == 20


def test_an_ordered_batch_ends_in_the_order_of_its_input(
    batches: MiraQueue, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    simulator.configure(latency_s=[0, 0.2])
    write_lines(tmp_path / "input.jsonl", entries())
    batch_id = batches.batches.submit(tmp_path / "input.jsonl", options=BatchOptions(ordered=True)).id

    at(batches, batch_id, BatchStatus.COMPLETED)

    batches.batches.results(batch_id, tmp_path / "output.jsonl")
    assert [line["custom_id"] for line in read_lines(tmp_path / "output.jsonl")] == [
        entry["custom_id"] for entry in entries()
    ]


def test_two_supervisors_of_one_queue_are_one(batches: MiraQueue, tmp_path: Path) -> None:
    submitted(batches, tmp_path, entries(3))
    wait_until("a supervisor is there", lambda: len(supervisors(batches)) == 1)
    submitted(batches, tmp_path, entries(3))
    submitted(batches, tmp_path, entries(3))

    assert len(supervisors(batches)) == 1


def test_what_is_no_batch_is_said_so(batches: MiraQueue) -> None:
    with pytest.raises(BatchNotFound, match="mira-queue batches"):
        batches.batches.get("batch_0")
    with pytest.raises(BatchNotFound):
        batches.batches.pause("batch_0")
