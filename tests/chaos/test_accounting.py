"""The accounting finds errors. A driver that finds nothing proves nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos import workload
from tests.chaos.accounting import Hits, Lines, Remarks, add_calls, add_lines
from tests.chaos.journal import Journal, JournalReader
from tests.chaos.options import ChaosOptions
from tests.chaos.pauses import Pause
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.schedule import Fault
from tests.chaos.sent import Arrivals, sent_elsewhere, sent_while_paused
from tests.chaos.system import MiraQueueSystem

OPTIONS = ChaosOptions(jobs=300, seed=3)


def test_an_outcome_that_is_stored_twice_is_detected() -> None:
    monitor = ResultMonitor("redis://127.0.0.1:1")
    monitor.accepted(["a", "b"])
    monitor.note("a", b'{"status": "RETRY"}')
    assert monitor.pending == 2
    monitor.note("a", b'{"status": "SUCCESS", "result": 1}')
    monitor.note("a", b'{"status": "SUCCESS", "result": 1}')
    assert (monitor.pending, monitor.duplicated) == (1, set())
    monitor.note("a", b'{"status": "SUCCESS", "result": 2}')
    assert monitor.duplicated == {"a"}


def line(number: int, *, of: int | None = None, code: str = "") -> str:
    """Return the line of a job in a file, with the answer of job `of` or with an error code."""
    content = workload.job(OPTIONS.seed, number if of is None else of).content
    body = {"choices": [{"message": {"role": "assistant", "content": f"You wrote: {content}"}}]}
    error = {"code": code, "message": "none"} if code else None
    return json.dumps({"custom_id": f"line-{number}", "response": {"body": body}, "error": error}) + "\n"


def checked(numbers: range, files: list[Path], hits: Hits | None = None) -> Lines:
    found = Lines()
    add_lines(OPTIONS, MiraQueueSystem(), numbers, files, {}, hits or {}, found, Remarks())
    return found


def test_missing_duplicated_and_unexpected_lines_are_counted(tmp_path: Path) -> None:
    answers, errors = tmp_path / "answers", tmp_path / "errors"
    answers.write_text(line(1) + line(2) + line(9) + '{"cust')
    errors.write_text(line(2))
    found = checked(range(1, 4), [answers, errors, tmp_path / "absent"])
    assert found == Lines(expected=3, missing=1, duplicated=1, unexpected=2)


def test_a_line_with_the_answer_of_another_line_or_with_an_error_is_wrong(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.write_text(line(1, of=2) + line(2) + line(3, code="server_error"))
    assert checked(range(1, 4), [answers]) == Lines(expected=3, wrong=2)


def test_a_dead_letter_is_right_only_after_three_crashes_during_the_call(tmp_path: Path) -> None:
    answers = tmp_path / "answers"
    answers.write_text(line(1, code="poison") + line(2, code="poison"))
    first, second = (workload.job(OPTIONS.seed, number).content for number in (1, 2))
    hits = {
        first: {Fault.KILL_WORKER: 2, Fault.STOP_WORKER: 1},
        second: {Fault.KILL_WORKER: 2, Fault.KILL_SERVER: 5, Fault.STOP_SERVER: 5},
    }
    assert checked(range(1, 3), [answers], hits) == Lines(expected=2, wrong=1, dead_letters=2)


TWO = replace(OPTIONS, accounts=2)


def content_of(number: int) -> str:
    return workload.job(TWO.seed, number).content


@pytest.mark.parametrize(("number", "sender", "elsewhere"), [(0, "A", 0), (0, "B", 1), (2, "A", 1)])
def test_a_call_with_the_key_or_at_the_api_of_another_account_is_counted(
    number: int, sender: str, elsewhere: int
) -> None:
    assert [workload.account_of(TWO, each) for each in (0, 2)] == [0, 1]
    arrivals: list[Arrivals] = [{content_of(number): {"came_s": [1.0], "accounts": [sender]}}, {}]
    assert sent_elsewhere(TWO, arrivals, ["A", "B"], Remarks()) == elsewhere


@pytest.mark.parametrize(("came_s", "count"), [(9.9, 0), (10.9, 0), (11.1, 1), (14.9, 1), (15.1, 0)])
def test_a_call_that_started_later_than_a_second_after_a_pause_is_counted(came_s: float, count: int) -> None:
    batch = workload.batch_numbers(TWO)[1]
    account = workload.batch_account(TWO, 1)
    came = {content_of(number): {"came_s": [came_s + 100], "accounts": ["A"]} for number in (batch[0], batch[-1] + 1)}
    arrivals: list[Arrivals] = [{}, {}]
    arrivals[account] = came
    offsets_s = [100.0 if number == account else 0.0 for number in range(2)]
    assert sent_while_paused(TWO, [Pause(1, 10, 15)], arrivals, offsets_s, Remarks()) == count


def test_all_accounts_have_single_jobs_runs_and_submitted_batches() -> None:
    singles = [number for producer in range(TWO.producers) for number in workload.single_numbers(TWO, producer)[:2]]
    assert {workload.account_of(TWO, number) for number in singles} == {0, 1}
    assert sorted((workload.batch_account(TWO, batch), batch % 2) for batch in range(4)) == [
        (0, 0), (0, 1), (1, 0), (1, 1)
    ]  # fmt: skip


def seen() -> dict[str, dict[str, int]]:
    """Return the simulator's counts of a run without repeated calls."""
    jobs = [workload.job(OPTIONS.seed, number) for number in range(OPTIONS.jobs)]
    return {job.content: {"calls": job.calls, "answered": int(job.succeeds), "refused": 0} for job in jobs}


@pytest.mark.parametrize(
    ("extra", "refused", "hit", "repeated", "unexplained"),
    [(0, 0, 0, 0, 0), (5, 5, 0, 0, 0), (2, 0, 2, 2, 0), (2, 0, 1, 2, 1), (6, 5, 0, 1, 1)],
)
def test_a_repeated_call_is_explained_only_by_a_fault_while_it_was_in_flight(
    extra: int, refused: int, hit: int, repeated: int, unexplained: int
) -> None:
    calls = seen()
    content = workload.job(OPTIONS.seed, 0).content
    calls[content]["calls"] += extra
    calls[content]["refused"] += refused
    # A fault explains a repetition of its own request only.
    faults = {
        content: {Fault.KILL_WORKER: hit},
        workload.job(OPTIONS.seed, 1).content: {Fault.KILL_WORKER: 3},
    }

    found = add_calls(OPTIONS, calls, faults, Remarks())

    assert (found.repeated, found.unexplained) == (repeated, unexplained)


def test_every_job_of_a_run_belongs_to_one_producer_or_one_batch() -> None:
    numbers = [number for producer in range(OPTIONS.producers) for number in workload.single_numbers(OPTIONS, producer)]
    numbers += [number for batch in workload.batch_numbers(OPTIONS) for number in batch]
    assert sorted(numbers) == list(range(OPTIONS.jobs))


def test_a_journal_that_was_truncated_by_a_kill_continues_on_a_new_line(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("1 a\n2 b\n3")
    journal = Journal(path)
    assert journal.written == {1, 2}
    journal.append(3, "c")
    assert list(JournalReader(path).new()) == [(1, "a"), (2, "b"), (3, "c")]
