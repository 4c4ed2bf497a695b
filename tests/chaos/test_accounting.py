"""The accounting finds errors. A driver that finds nothing proves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import workload
from tests.chaos.accounting import Remarks, add_calls, add_lines
from tests.chaos.journal import Journal, JournalReader
from tests.chaos.options import ChaosOptions
from tests.chaos.result_monitor import ResultMonitor

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


def test_missing_duplicated_and_unexpected_lines_are_counted(tmp_path: Path) -> None:
    answers, errors = tmp_path / "answers", tmp_path / "errors"
    answers.write_text('{"custom_id": "line-1"}\n{"custom_id": "line-2"}\n{"custom_id": "line-9"}\n{"cust')
    errors.write_text('{"custom_id": "line-2"}\n')
    lines = add_lines(range(1, 4), [answers, errors, tmp_path / "absent"], Remarks())
    assert (lines.expected, lines.missing, lines.duplicated, lines.unexpected) == (3, 1, 1, 2)


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
    faults = {content: hit, workload.job(OPTIONS.seed, 1).content: 3}

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
