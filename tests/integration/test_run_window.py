"""The window of open jobs: what goes in, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mira_producer.cost.prices import Prices
from mira_producer.engine.account_errors import AccountErrors
from mira_producer.engine.plan import Plan
from mira_producer.engine.window import Window

from mira_queue import MiraQueue
from mira_queue.contract.batch import BatchFiles, BatchOptions
from tests.support.ledger_steps import COMPLETION, claimed
from tests.support.run_process import files_in, ids, read_lines, write_lines

SIZE = 40


@pytest.fixture
def files(tmp_path: Path) -> BatchFiles:
    files = files_in(tmp_path)
    write_lines(files.input, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(100)])
    return files


@pytest.fixture
def window(queue: MiraQueue, files: BatchFiles) -> Iterator[Window]:
    """Full. No worker runs."""
    plan = Plan(files, BatchOptions(), Prices(), queue.check)
    window = Window(queue, plan, queue.accounts.current, AccountErrors("pause", "mira"), None, size=SIZE)
    while window.has_room():
        window.fill()
    yield window
    window.withdraw()
    window.close()
    plan.close()


def end(queue: MiraQueue, window: Window, number: int) -> list[str]:
    """Answer some of the open jobs; returns the ids of their lines."""
    jobs = list(window.open.items())[:number]
    for job_id, _ in jobs:
        queue.ledger.finish(claimed(queue.ledger, job_id), COMPLETION)
    return [line.custom_id for _, line in jobs]


def test_lines_are_not_handed_in_one_by_one(queue: MiraQueue, window: Window) -> None:
    assert len(window.open) == SIZE
    end(queue, window, 1)
    assert (window.collect(5), window.has_room()) == (1, False)

    end(queue, window, SIZE // 4 - 1)
    assert (window.collect(5), window.has_room()) == (SIZE // 4 - 1, True)
    window.fill()

    assert len(window.open) == SIZE


def test_an_answer_whose_announcement_was_lost_is_written_at_the_second_look(
    queue: MiraQueue, window: Window, files: BatchFiles
) -> None:
    ended = end(queue, window, 3)
    queue.ledger.finished(window.group, 5)

    assert (window.check_open(), window.check_open()) == (0, 3)
    assert sorted(ids(read_lines(files.output))) == sorted(ended)
