"""docs/errors.md is what the code does."""

from __future__ import annotations

from tests.support.errors_doc import FILE, document


def test_the_table_of_meanings_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "run: make errors-doc"
