"""A copy of an input file in which some lines have another text. All lines keep their numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from mira_producer.jsonl.request_line import raw_lines


def lines_at(path: Path, numbers: Iterable[int]) -> dict[int, bytes]:
    """Return the content of these lines. The file is read up to the last of them. Raises InvalidInput."""
    wanted = set(numbers)
    found = ((number, line) for number, line in raw_lines(path) if number in wanted)
    return dict(islice(found, len(wanted)))


def edited_lines(path: Path, texts: Mapping[int, str]) -> Iterator[bytes]:
    """Yield the lines of a file, decompressed. An empty text makes a line blank, so that it is no request any more.

    The lines of a text are joined: line breaks mean nothing in JSON. Raises InvalidInput.
    """
    last = 0
    for number, line in raw_lines(path):
        text = texts.get(number)
        yield b"\n" * (number - last - 1) + (line if text is None else b" ".join(text.encode().splitlines())) + b"\n"
        last = number
