"""The crash table of docs/states.md and its tests: a row without a test fails here, and a test without a row."""

from __future__ import annotations

import importlib
from pathlib import Path

from tests.support.crash_matrix import Row, rows_of_the_document

HERE = Path(__file__).parent
# Rows that are tested where their part is: (row, file, test).
ELSEWHERE: dict[Row, tuple[str, str]] = {
    ("`mira-queue run`", "in the middle of writing a line"): (
        "unit/test_run_output.py",
        "test_a_run_that_is_killed_while_it_writes_leaves_whole_lines_and_at_most_one_half",
    ),
}


def test_every_row_of_the_crash_table_is_a_test() -> None:
    tested = set(_marked()) | set(ELSEWHERE)

    assert sorted(tested) == sorted(rows_of_the_document())


def test_the_tests_of_other_files_are_there() -> None:
    for file, name in ELSEWHERE.values():
        assert f"def {name}(" in (HERE.parent / file).read_text(encoding="utf-8"), f"{file}::{name}"


def _marked() -> list[Row]:
    names = [
        path.stem for pattern in ("test_crash_table_*.py", "test_server_faults*.py") for path in HERE.glob(pattern)
    ]
    modules = [importlib.import_module(f"tests.integration.{name}") for name in names]
    return [
        test.crash_table_row for module in modules for test in vars(module).values() if hasattr(test, "crash_table_row")
    ]
