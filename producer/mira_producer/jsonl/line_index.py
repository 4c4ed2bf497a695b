"""Lines of a run, and which of them are answered: IDs on disk, and one bit per line in memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Self

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import DUPLICATE_CUSTOM_ID

# Pages of a database beyond this are in the file cache of the system, which serves them as well.
_CACHE_KIB = 2048


class TemporaryDatabase:
    """A SQLite database that is removed when it is closed, and even after a SIGKILL. It has no transactions."""

    def __init__(self, *tables: str) -> None:
        # An empty name means a temporary database. It is in memory until it is larger than its cache.
        self._database = sqlite3.connect("", isolation_level=None)
        for statement in (f"PRAGMA cache_size = -{_CACHE_KIB}", "PRAGMA journal_mode = OFF", "BEGIN", *tables):
            self._database.execute(statement)
        self.execute = self._database.execute

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()


class LineIndex(TemporaryDatabase):
    """Line numbers and digests by custom_id."""

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE line (custom_id TEXT PRIMARY KEY, number INTEGER, digest TEXT) WITHOUT ROWID",
            "CREATE TABLE changed (digest TEXT)",
        )
        self._answered = Bits()
        self.total = 0
        self.answered = 0

    def add(self, lines: Iterable[tuple[str, int, str]]) -> None:
        """Add (custom_id, number, digest) of lines. Raises InvalidRequest for an ID that another line has."""
        for custom_id, number, digest in lines:
            try:
                self.execute("INSERT INTO line VALUES (?, ?, ?)", (custom_id, number, digest))
            except sqlite3.IntegrityError:
                reason = f"{custom_id!r} is already the ID of line {self.number_of(custom_id)}"
                raise InvalidRequest("custom_id", reason, DUPLICATE_CUSTOM_ID) from None
            self.total += 1

    def find(self, custom_id: str) -> tuple[int, str] | None:
        """Return the number and the digest of a line; None if there is no such line."""
        row = self.execute("SELECT number, digest FROM line WHERE custom_id = ?", (custom_id,)).fetchone()
        return None if row is None else (row[0], row[1])

    def number_of(self, custom_id: str) -> int | None:
        found = self.find(custom_id)
        return None if found is None else found[0]

    def digest_of(self, custom_id: str) -> str:
        """Return the digest of a line; empty if there is no such line."""
        found = self.find(custom_id)
        return "" if found is None else found[1]

    def add_changed(self, digest: str) -> None:
        """Record the digest of an answer whose line has another request now."""
        self.execute("INSERT INTO changed VALUES (?)", (digest,))

    def count_moved(self) -> int:
        """Return how many of these answers belong to the request of another line."""
        query = "SELECT count(*) FROM changed WHERE digest IN (SELECT digest FROM line)"
        return int(self.execute(query).fetchone()[0])

    def mark_answered(self, number: int) -> bool:
        """Return False if the line is answered already."""
        is_new = self._answered.add(number)
        self.answered += is_new
        return is_new

    def mark_pending(self, numbers: Iterable[int]) -> None:
        """Mark answered lines as pending again."""
        for number in numbers:
            self._answered.remove(number)
            self.answered -= 1

    def is_answered(self, number: int) -> bool:
        """Return False for a number that no line has, too."""
        return number in self._answered


class Bits:
    """A set of numbers, with one bit for each number up to the largest."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __contains__(self, number: int) -> bool:
        place, bit = divmod(number, 8)
        return place < len(self._bytes) and bool(self._bytes[place] >> bit & 1)

    def add(self, number: int) -> bool:
        """Return False if the number is in the set already."""
        place, bit = divmod(number, 8)
        if place >= len(self._bytes):
            self._bytes.extend(bytes(place + 1 - len(self._bytes)))
        if self._bytes[place] >> bit & 1:
            return False
        self._bytes[place] |= 1 << bit
        return True

    def remove(self, number: int) -> None:
        """Remove a number that is in the set."""
        place, bit = divmod(number, 8)
        self._bytes[place] &= ~(1 << bit)
