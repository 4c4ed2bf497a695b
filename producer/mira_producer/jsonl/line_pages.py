"""Pages of the lines of a file, forward or backward from a place, without reading the rest of the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# A page ends after this many bytes, though it always has a line.
MAX_PAGE_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class LinePage:
    """Lines of a file, without line ends, and the places in bytes where they begin and end."""

    lines: tuple[bytes, ...]
    begin: int
    end: int


def page_after(path: Path, place: int, size: int, count: int) -> LinePage:
    """Return at most `count` of the lines that begin at or after a place. The file has `size` bytes.

    Raises FileNotFoundError.
    """
    with path.open("rb") as file:
        return _page(file, min(place, size), size, count)


def page_before(path: Path, place: int, size: int, count: int) -> LinePage:
    """Return at most `count` of the last lines that end at or before a place. Raises FileNotFoundError."""
    place = min(place, size)
    with path.open("rb") as file:
        begin, found = place, b""
        while begin and found.count(b"\n") <= count and not (len(found) > MAX_PAGE_BYTES and b"\n" in found[:-1]):
            step = min(_BLOCK_BYTES, begin)
            begin -= step
            found = os.pread(file.fileno(), step, begin) + found
        parts = found.split(b"\n")
        # The first part is the end of an earlier line, unless the file begins here.
        whole = parts if not begin else parts[1:]
        kept = whole[-(count + 1) :]
        return _page(file, place - len(b"\n".join(kept)), place, count)


def _page(file: BinaryIO, begin: int, end: int, count: int) -> LinePage:
    if begin:
        # A place inside a line, which a URL may name: the page begins with the next line.
        file.seek(begin - 1)
        begin += len(file.readline()) - 1
    file.seek(begin)
    lines: list[bytes] = []
    place = begin
    while place < end and len(lines) < count and place - begin < MAX_PAGE_BYTES:
        line = file.readline()
        if not line:
            break
        place += len(line)
        lines.append(line.rstrip(b"\n"))
    return LinePage(tuple(lines), begin, place)
