"""Tables that are too large for the memory, for as long as a run lasts."""

from __future__ import annotations

import sqlite3

# What a database holds in memory; beyond it, the system's cache of files serves it as well.
_CACHE_KIB = 2048


def temporary_database() -> sqlite3.Connection:
    """Removed by SQLite itself when it is closed, and even after a SIGKILL. No transaction has to be ended."""
    # An empty name is SQLite's temporary database: in memory while small, spilled to disk beyond its cache.
    database = sqlite3.connect("", isolation_level=None)
    database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    # Nobody reads it after a crash.
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("BEGIN")
    return database
