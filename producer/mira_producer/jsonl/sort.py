"""A file of lines in the order of the input, in bounded memory: lines are found again by their places in the file."""

from __future__ import annotations

import os
from collections.abc import Iterator

import orjson

from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.temporary_database import temporary_database


def put_in_order(file: ResultFile, index: LineIndex) -> bool:
    """Rewrite a file whose lines are all of the input. False: its lines stand in order already.

    The file is the old one or the new one at every moment. Raises InputError when the disk is full; the old one stays.
    """
    database = temporary_database()
    try:
        database.execute("CREATE TABLE line (number INTEGER PRIMARY KEY, place INTEGER, size INTEGER)")
        place, last, is_ordered = 0, 0, True
        with file.path.open("rb") as stream:
            for content in stream:
                if content.strip():
                    number = index.number_of(str(orjson.loads(content)["custom_id"]))
                    database.execute("INSERT INTO line VALUES (?, ?, ?)", (number, place, len(content)))
                    is_ordered, last = is_ordered and (number or 0) > last, number or 0
                place += len(content)
            if not is_ordered:
                file.replace(_pieces(stream.fileno(), database.execute("SELECT place, size FROM line ORDER BY number")))
        return not is_ordered
    finally:
        database.close()


def _pieces(fd: int, places: Iterator[tuple[int, int]]) -> Iterator[bytes]:
    for place, size in places:
        yield os.pread(fd, size, place)
