"""Pages of the lines of a file, read from any place."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mira_producer.jsonl import line_pages
from mira_producer.jsonl.line_pages import page_after, page_before

LINES = st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"x")), max_size=30)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages") / "output.jsonl"


def written(file: Path, lines: list[bytes]) -> int:
    return file.write_bytes(b"".join(line + b"\n" for line in lines))


@given(lines=LINES, count=st.integers(1, 7))
def test_pages_forward_have_each_line_once(file: Path, lines: list[bytes], count: int) -> None:
    size, place = written(file, lines), 0
    found: list[bytes] = []
    while place < size:
        page = page_after(file, place, size, count)
        assert page.begin == place
        assert 1 <= len(page.lines) <= count
        found += page.lines
        place = page.end
    assert found == lines


@given(lines=LINES, count=st.integers(1, 7))
def test_pages_backward_have_each_line_once(file: Path, lines: list[bytes], count: int) -> None:
    size = written(file, lines)
    place, found = size, list[bytes]()
    while place:
        page = page_before(file, place, size, count)
        assert page.end == place
        assert 1 <= len(page.lines) <= count
        found[:0] = page.lines
        place = page.begin
    assert found == lines


@given(lines=LINES, place=st.integers(0, 400), count=st.integers(1, 7))
def test_a_place_inside_a_line_leads_to_whole_lines(file: Path, lines: list[bytes], place: int, count: int) -> None:
    size = written(file, lines)

    for page in (page_after(file, place, size, count), page_before(file, place, size, count)):
        assert set(page.lines) <= set(lines)


def test_lines_that_are_not_complete_yet_are_on_no_page(tmp_path: Path) -> None:
    path = tmp_path / "growing.jsonl"
    path.write_bytes(b"one\ntwo\nthr")

    assert page_after(path, 0, len("one\ntwo\n"), 10).lines == (b"one", b"two")
    assert page_before(path, 1000, len("one\ntwo\n"), 10).lines == (b"one", b"two")


def test_a_page_of_long_lines_ends_early_and_always_has_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_pages, "MAX_PAGE_BYTES", 100)
    monkeypatch.setattr(line_pages, "_BLOCK_BYTES", 16)
    path = tmp_path / "long.jsonl"
    size = written(path, [b"a" * 90, b"b" * 90, b"c" * 300])

    assert [line[:1] for line in page_after(path, 0, size, 10).lines] == [b"a", b"b"]
    assert [line[:1] for line in page_before(path, size, size, 10).lines] == [b"c"]
