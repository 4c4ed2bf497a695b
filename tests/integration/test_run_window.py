"""The window of open jobs: what goes in, and when."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mira_producer.engine.account_errors import Account
from mira_producer.engine.options import EngineOptions
from mira_producer.engine.plan import Plan
from mira_producer.engine.window import Window

from mira_queue import MiraQueue
from tests.support.ledger_steps import COMPLETION, claimed
from tests.support.run_process import ANSWERS, ERRORS, ids, read_lines, write_lines

SIZE = 40


@pytest.fixture
def options(tmp_path: Path) -> EngineOptions:
    source, output, errors = (tmp_path / name for name in ("input.jsonl", ANSWERS, ERRORS))
    write_lines(source, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(100)])
    return EngineOptions(source, output, errors, group="test", window=SIZE)


@pytest.fixture
def window(queue: MiraQueue, options: EngineOptions) -> Iterator[Window]:
    """Full. No worker runs."""
    plan = Plan.make(options, queue.check)
    window = Window(queue, options, plan, Account(options.on_account_error, "mira"), None, set())
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
    queue: MiraQueue, window: Window, options: EngineOptions
) -> None:
    ended = end(queue, window, 3)
    queue.ledger.finished("test", 5)

    assert (window.look_again(), window.look_again()) == (0, 3)
    assert sorted(ids(read_lines(options.output))) == sorted(ended)
