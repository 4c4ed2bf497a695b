"""Output files that another program changes while a run writes them: it is noticed, and no written line is lost."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from mira_producer.cost.prices import Prices
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Finished, ResultWriter
from mira_producer.jsonl.errors import FileReplaced, InputError
from mira_producer.jsonl.request_line import OpenLine
from mira_producer.jsonl.result_file import ResultFile

from mira_queue.contract.batch import BatchOptions
from mira_queue.contract.outcome import Completion
from mira_queue.runtime.crash_points import CrashPoints
from tests.support.run_process import files_in, read_lines
from tests.unit.test_line_digests import check


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out"


def replace(path: Path) -> None:
    """As an editor does: read, write a new file, rename it."""
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)


def move(path: Path) -> None:
    path.rename(path.with_name("moved"))


def truncate(path: Path) -> None:
    os.truncate(path, 0)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x\n")


@pytest.mark.parametrize(
    ("change", "saved", "left"),
    [
        (replace, "out.saved", {"out": b"1\n", "out.saved": b"1\n"}),
        (Path.unlink, "out", {"out": b"1\n"}),
        (move, "out", {"out": b"1\n", "moved": b"1\n"}),
        (append, None, {"out": b"1\nx\n"}),
        (truncate, None, {}),
    ],
)
def test_a_change_is_noticed_before_the_next_line_and_written_lines_are_saved(
    path: Path, change: Callable[[Path], None], saved: str | None, left: dict[str, bytes]
) -> None:
    file = ResultFile(path)
    file.append([b"1\n"])
    change(path)

    for _ in range(2):
        with pytest.raises(FileReplaced) as caught:
            file.append([b"2\n"])
    file.close()

    assert caught.value.saved == (saved and path.with_name(saved))
    assert {each.name: each.read_bytes() for each in path.parent.iterdir()} == left


def test_a_file_that_is_replaced_while_lines_are_written_is_noticed_after_them(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = ResultFile(path)
    file.append([b"1\n"])
    sync = os.fsync

    def sync_and_replace(fd: int) -> None:
        monkeypatch.undo()
        sync(fd)
        replace(path)

    monkeypatch.setattr(os, "fsync", sync_and_replace)
    with pytest.raises(FileReplaced):
        file.append([b"2\n"])
    file.close()

    assert path.with_name("out.saved").read_bytes() == b"1\n2\n"


def test_a_saved_file_is_never_overwritten(path: Path) -> None:
    path.with_name("out.saved").write_bytes(b"an earlier one")
    file = ResultFile(path)
    file.append([b"1\n"])
    replace(path)

    with pytest.raises(FileReplaced):
        file.check()
    file.close()

    assert path.with_name("out.saved").read_bytes() == b"an earlier one"
    assert path.with_name("out.saved2").read_bytes() == b"1\n"


def test_a_file_of_another_program_is_neither_rewritten_nor_removed(path: Path) -> None:
    file = ResultFile(path)
    path.unlink()
    path.write_bytes(b"")

    with pytest.raises(FileReplaced):
        file.replace([b"1\n"])
    file.close()

    assert path.read_bytes() == b""


def test_lines_that_cannot_be_saved_end_the_run_with_a_message(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    file = ResultFile(folder / "out")
    file.append([b"1\n"])
    (folder / "out").unlink()
    folder.rmdir()

    with pytest.raises(InputError, match="cannot be saved"):
        file.append([b"2\n"])
    file.close()


def test_lines_of_a_replaced_file_stay_pending_and_are_not_counted(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.input.write_text('{"prompt": "a"}\n{"prompt": "b"}\n', encoding="utf-8")
    plan = Plan(files, BatchOptions(), Prices(), check)
    answer = Completion("text", "stop", {}, {})
    writer = ResultWriter(plan, CrashPoints(None))
    writer.write([Finished("job-1", OpenLine(1, "1"), answer)])
    replace(files.output)

    with pytest.raises(FileReplaced):
        writer.write([Finished("job-2", OpenLine(2, "2"), answer)])

    assert (plan.stats.succeeded, plan.left) == (1, 1)
    with pytest.raises(FileReplaced):
        plan.check_files()
    plan.close()
    assert len(read_lines(files.output)) == 1
