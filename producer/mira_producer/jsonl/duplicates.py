"""Lines with the same request: one of them is sent, and all of them get its outcome."""

from __future__ import annotations

from collections.abc import Iterator

from mira_producer.jsonl.line_index import TemporaryDatabase


class Duplicates(TemporaryDatabase):
    """Line numbers by the digest of the request, on disk."""

    def __init__(self) -> None:
        super().__init__(
            "CREATE TABLE line (digest BLOB, number INTEGER, custom_id TEXT, PRIMARY KEY (digest, number))"
            " WITHOUT ROWID",
            "CREATE TABLE sent (digest BLOB PRIMARY KEY, number INTEGER) WITHOUT ROWID",
        )

    def add(self, digest: str, number: int, custom_id: str) -> None:
        """Add a line of the input."""
        self.execute("INSERT INTO line VALUES (?, ?, ?)", (bytes.fromhex(digest), number, custom_id))

    def is_first(self, digest: str, number: int) -> bool:
        """Return True for the first line of each digest for which this is called. That line is sent."""
        key = bytes.fromhex(digest)
        self.execute("INSERT OR IGNORE INTO sent VALUES (?, ?)", (key, number))
        row = self.execute("SELECT number FROM sent WHERE digest = ?", (key,)).fetchone()
        return bool(row[0] == number)

    def of(self, digest: str) -> Iterator[tuple[int, str]]:
        """Yield (number, custom_id) of every line with this request, in order."""
        yield from self.execute(
            "SELECT number, custom_id FROM line WHERE digest = ? ORDER BY number", (bytes.fromhex(digest),)
        )
