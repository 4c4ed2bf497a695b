"""The window of open jobs: what goes in, and when."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import redis
from mira_producer.cost.prices import Prices
from mira_producer.engine.account_errors import AccountErrors
from mira_producer.engine.plan import Plan
from mira_producer.engine.window import Window
from mira_producer.jsonl.errors import FileReplaced

from mira_queue import MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import BatchFiles, BatchOptions
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.outcome import Outcome
from tests.support.ledger_steps import COMPLETION, FAILURE, claimed
from tests.support.run_process import files_in, ids, read_lines, write_lines

SIZE = 40


@pytest.fixture
def files(tmp_path: Path) -> BatchFiles:
    files = files_in(tmp_path)
    write_lines(files.input, [{"custom_id": f"{number}", "prompt": f"Question {number}"} for number in range(100)])
    return files


@contextmanager
def opened(queue: MiraQueue, files: BatchFiles) -> Iterator[Window]:
    plan = Plan(files, BatchOptions(), Prices(), queue.check)
    window = Window(queue, plan, queue.accounts.current, AccountErrors("pause", "mira"), None, size=SIZE)
    fill(window)
    yield window
    window.withdraw()
    window.close()
    plan.close()


@pytest.fixture
def window(queue: MiraQueue, files: BatchFiles) -> Iterator[Window]:
    """Full. No worker runs."""
    with opened(queue, files) as window:
        yield window


def fill(window: Window) -> None:
    while window.has_room() and not window.is_submitted:
        window.fill()


def jobs_left(client: redis.Redis) -> int:
    return len(client.keys(names.job_key("*")))


def end(queue: MiraQueue, window: Window, number: int, outcome: Outcome = COMPLETION) -> list[str]:
    """Answer some of the open jobs; returns the ids of their lines."""
    jobs = list(window.open.items())[:number]
    for job_id, _ in jobs:
        lease = claimed(queue.ledger, job_id, account=queue.accounts.current.id)
        queue.ledger.finish(lease, outcome)
    return [line.custom_id for _, line in jobs]


def test_lines_are_not_handed_in_one_by_one(queue: MiraQueue, window: Window) -> None:
    assert len(window.open) == SIZE
    end(queue, window, 1)
    assert (window.collect(5), window.has_room()) == (1, False)

    end(queue, window, SIZE // 4 - 1)
    assert (window.collect(5), window.has_room()) == (SIZE // 4 - 1, True)
    window.fill()

    assert len(window.open) == SIZE


def test_lines_that_a_truncated_file_has_lost_are_written_again_without_a_call(
    queue: MiraQueue, files: BatchFiles, redis_client: redis.Redis
) -> None:
    with opened(queue, files) as window:
        answered = end(queue, window, SIZE // 2)
        window.collect(5)
        answered += end(queue, window, 3)
        os.truncate(files.output, 0)
        with pytest.raises(FileReplaced) as caught:
            window.collect(5)
        assert caught.value.saved is None
        assert "0 bytes" in caught.value.brief
    assert jobs_left(redis_client) == len(answered) == SIZE // 2 + 3

    with opened(queue, files) as window:
        assert sorted(ids(read_lines(files.output))) == sorted(answered)
        assert not {line.custom_id for line in window.open.values()} & {*answered}
    assert jobs_left(redis_client) == 0


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 0), Path.unlink])
def test_a_change_of_the_other_file_is_noticed_before_a_job_is_deleted(
    queue: MiraQueue, window: Window, files: BatchFiles, redis_client: redis.Redis, change: Callable[[Path], None]
) -> None:
    """Only errors are written after the output file has changed."""
    end(queue, window, SIZE)
    window.collect(5)
    fill(window)
    before = jobs_left(redis_client)
    change(files.output)
    end(queue, window, SIZE, FAILURE)

    with pytest.raises(FileReplaced):
        window.collect(5)

    assert jobs_left(redis_client) == before
    window.withdraw()
    window.close()
    assert jobs_left(redis_client) == before


def test_jobs_of_written_lines_are_deleted_when_a_full_window_has_followed_them(
    queue: MiraQueue, window: Window, redis_client: redis.Redis
) -> None:
    for answered in (1, 2):
        end(queue, window, SIZE)
        window.collect(5)
        fill(window)
        open_jobs = len(window.open)
        assert open_jobs == (SIZE if answered == 1 else 100 - 2 * SIZE)
        assert jobs_left(redis_client) == SIZE + open_jobs


def test_jobs_of_written_lines_make_room_on_a_server_whose_memory_is_full(
    queue: MiraQueue, window: Window, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rejected(*_: object) -> NoReturn:
        raise QueueUnavailable("almost full")

    end(queue, window, SIZE)
    window.collect(5)
    assert jobs_left(redis_client) == SIZE
    monkeypatch.setattr(queue, "accept", rejected)

    with pytest.raises(QueueUnavailable):
        window.fill()

    assert jobs_left(redis_client) == 0


def test_an_answer_whose_announcement_was_lost_is_written_at_the_second_look(
    queue: MiraQueue, window: Window, files: BatchFiles
) -> None:
    ended = end(queue, window, 3)
    queue.ledger.finished(window.group, 5)

    assert (window.check_open(), window.check_open()) == (0, 3)
    assert sorted(ids(read_lines(files.output))) == sorted(ended)
