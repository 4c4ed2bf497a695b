"""A file of lines in the order of the input, in bounded memory: an index of positions is sorted, not the lines."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import orjson

from mira_producer.jsonl.line_index import LineIndex, TemporaryDatabase
from mira_producer.jsonl.result_file import ResultFile


def put_in_order(file: ResultFile, index: LineIndex) -> bool:
    """Rewrite a file that holds only lines of the input. Return False if its lines are in order already.

    The file is replaced in one step. Raises StorageFull, which leaves it as it is, and FileReplaced.
    """
    file.check()
    with TemporaryDatabase(
        "CREATE TABLE line (number INTEGER PRIMARY KEY, position INTEGER, size INTEGER)"
    ) as database:
        position, last, is_ordered = 0, 0, True
        with file.path.open("rb") as stream:
            for content in stream:
                if content.strip():
                    number = index.number_of(str(orjson.loads(content)["custom_id"])) or 0
                    database.execute("INSERT INTO line VALUES (?, ?, ?)", (number, position, len(content)))
                    is_ordered, last = is_ordered and number > last, number
                position += len(content)
            if not is_ordered:
                rows = database.execute("SELECT position, size FROM line ORDER BY number")
                file.replace(_pieces(stream.fileno(), rows))
        return not is_ordered


def _pieces(fd: int, rows: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    for position, size in rows:
        yield os.pread(fd, size, position)
