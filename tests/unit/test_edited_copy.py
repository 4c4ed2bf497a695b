"""Edited copies of an input file."""

from __future__ import annotations

import gzip
from pathlib import Path

from mira_producer.jsonl.edited_copy import edited_lines, lines_at
from mira_producer.jsonl.request_line import raw_lines

CONTENT = b'\xef\xbb\xbf{"a": 1}\r\n\n\n{"b": 2}\n{"c": 3}'


def test_edited_lines_replace_the_old_ones_and_all_lines_keep_their_numbers(tmp_path: Path) -> None:
    path, copy = tmp_path / "input.jsonl", tmp_path / "copy.jsonl"
    path.write_bytes(CONTENT)

    copy.write_bytes(b"".join(edited_lines(path, {4: '{"b":\r\n "new"}', 5: "", 99: "none"})))

    assert list(raw_lines(copy)) == [(1, b'{"a": 1}'), (4, b'{"b":  "new"}')]


def test_a_copy_of_a_compressed_file_is_plain(tmp_path: Path) -> None:
    path, copy = tmp_path / "input.jsonl.gz", tmp_path / "copy.jsonl"
    path.write_bytes(gzip.compress(CONTENT))

    copy.write_bytes(b"".join(edited_lines(path, {})))

    assert list(raw_lines(copy)) == list(raw_lines(path))
    assert copy.read_bytes().startswith(b'{"a": 1}\n')


def test_lines_are_found_by_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "input.jsonl"
    path.write_bytes(CONTENT)

    assert lines_at(path, [4, 5, 77]) == {4: b'{"b": 2}', 5: b'{"c": 3}'}
    assert lines_at(path, []) == {}
