"""Tables that are too large for memory, for the duration of a run."""

from __future__ import annotations

import sqlite3
from typing import Self

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
