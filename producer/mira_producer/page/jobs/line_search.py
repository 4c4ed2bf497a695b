"""Search in the files of batches: a line that is written has no job any more."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from mira_producer.batches.client import Batches
from mira_producer.page.visitor import Audience
from mira_queue.contract.batch import Batch

# Bytes of files that one search reads, the newest batches first: about a second. The first file is always searched.
MAX_SEARCHED = 1024**3
# No line of ours is longer: another program has written the file.
MAX_LINE = 256 * 1024 * 1024
STEP = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FoundLine:
    """A line of the output or error file of a batch. Lines are counted from 1."""

    batch: Batch
    is_error: bool
    number: int
    line: bytes

    @property
    def text(self) -> str:
        """The line, indented if it is JSON."""
        try:
            return orjson.dumps(orjson.loads(self.line), option=orjson.OPT_INDENT_2).decode()
        except orjson.JSONDecodeError:
            return self.line.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class LineSearch:
    """Result of a search. `left_out` counts batches that were not searched, because the others are large."""

    found: FoundLine | None
    left_out: int = 0


def find_line(batches: Batches, audience: Audience, line_id: str) -> LineSearch:
    """Find a line by its ID (`batch_req_...`) in the batches that these users see."""
    visible = [each for each in batches.all() if audience.sees(each.origin.project)]
    text = b'"id":"%b"' % line_id.encode()
    read = 0
    for place, batch in enumerate(visible):
        for is_error, path in _files_of(batches, batch):
            size = path.stat().st_size if path.exists() else 0
            if read and read + size > MAX_SEARCHED:
                return LineSearch(None, len(visible) - place)
            read += size
            # Another process may remove the file meanwhile.
            with suppress(OSError):
                if size and (found := _find(path, text)):
                    return LineSearch(FoundLine(batch, is_error, *found))
    return LineSearch(None)


def _files_of(batches: Batches, batch: Batch) -> Iterable[tuple[bool, Path]]:
    files = batches.spool.files_of(batch)
    return [] if files is None else [(False, files.output), (True, files.errors)]


def _find(path: Path, text: bytes) -> tuple[int, bytes] | None:
    """Return the number and the content of the line that has this text.

    The file is not mapped: another program may truncate it meanwhile.
    """
    line_number, rest = 1, b""
    with path.open("rb") as file:
        while piece := file.read(STEP):
            piece = rest + piece
            # A line that its batch is writing at this moment is not complete.
            complete, end, rest = piece.rpartition(b"\n")
            place = complete.find(text)
            if place >= 0:
                start = complete.rfind(b"\n", 0, place) + 1
                return line_number + complete.count(b"\n", 0, start), complete[start:].partition(b"\n")[0]
            if len(rest) > MAX_LINE:
                return None
            line_number += complete.count(b"\n") + len(end)
    return None
