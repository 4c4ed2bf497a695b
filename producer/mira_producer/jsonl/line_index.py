"""Which lines a run has, and which of them are answered: on disk and in a bit a line, however long the file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from mira_producer.jsonl.temporary_database import temporary_database
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import DUPLICATE_CUSTOM_ID


class LineIndex:
    """Line numbers by custom_id, in a temporary database."""

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.execute("CREATE TABLE line (custom_id TEXT PRIMARY KEY, number INTEGER NOT NULL) WITHOUT ROWID")
        self._answered = Bits()
        self.total = 0
        self.answered = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, lines: Iterable[tuple[str, int]]) -> None:
        """Add (custom_id, number). Raises InvalidRequest for an id that another line has."""
        for custom_id, number in lines:
            try:
                self._database.execute("INSERT INTO line VALUES (?, ?)", (custom_id, number))
            except sqlite3.IntegrityError:
                reason = f"{custom_id!r} is already the id of line {self.number_of(custom_id)}"
                raise InvalidRequest("custom_id", reason, DUPLICATE_CUSTOM_ID) from None
            self.total += 1

    def number_of(self, custom_id: str) -> int | None:
        row = self._database.execute("SELECT number FROM line WHERE custom_id = ?", (custom_id,)).fetchone()
        return None if row is None else int(row[0])

    def mark_answered(self, number: int) -> bool:
        """False: it was already."""
        if not self._answered.add(number):
            return False
        self.answered += 1
        return True

    def mark_unanswered(self, numbers: Iterable[int]) -> None:
        """Of lines that were marked as answered."""
        for number in numbers:
            self._answered.remove(number)
            self.answered -= 1

    def is_answered(self, number: int) -> bool:
        """False for a number that no line has."""
        return number in self._answered


class Bits:
    """A set of small numbers, a bit each up to the greatest."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bytes) and bool(self._bytes[place] >> bit & 1)

    def add(self, number: int) -> bool:
        """False: it was in already."""
        place, bit = divmod(number, 8)
        if place >= len(self._bytes):
            self._bytes.extend(bytes(place + 1 - len(self._bytes)))
        if self._bytes[place] >> bit & 1:
            return False
        self._bytes[place] |= 1 << bit
        return True

    def remove(self, number: int) -> None:
        """Of a number that is in."""
        place, bit = divmod(number, 8)
        self._bytes[place] &= ~(1 << bit)
