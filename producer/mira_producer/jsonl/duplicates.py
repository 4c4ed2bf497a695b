"""Lines that ask the very same: one of them is sent, all of them get its answer."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from mira_producer.jsonl.temporary_database import temporary_database


class Duplicates:
    """Lines by the digest of their request, on disk."""

    def __init__(self) -> None:
        self._database = temporary_database()
        self._database.execute(
            "CREATE TABLE line (digest BLOB, number INTEGER, custom_id TEXT, PRIMARY KEY (digest, number))"
            " WITHOUT ROWID"
        )
        self._database.execute("CREATE TABLE sent (digest BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, digest: str, number: int, custom_id: str) -> None:
        """Of every line of the input."""
        self._database.execute("INSERT INTO line VALUES (?, ?, ?)", (bytes.fromhex(digest), number, custom_id))

    def is_first(self, digest: str, number: int) -> bool:
        """Is this the line that is sent? The first that asks this of each digest is; its others wait for the answer."""
        key = bytes.fromhex(digest)
        self._database.execute("INSERT OR IGNORE INTO sent VALUES (?, ?)", (key, number))
        row = self._database.execute("SELECT number FROM sent WHERE digest = ?", (key,)).fetchone()
        return bool(row[0] == number)

    def of(self, digest: str) -> Iterator[tuple[int, str]]:
        """(number, custom_id) of every line with this request, in order."""
        yield from self._database.execute(
            "SELECT number, custom_id FROM line WHERE digest = ? ORDER BY number", (bytes.fromhex(digest),)
        )
