"""Price table of the gateway. It is read again when its file has changed, so that new prices need no restart."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import structlog

from mira_producer.cost.prices import DEFAULT_TABLE, Prices, parse_table, read_table
from mira_producer.jsonl.errors import InputError


class PriceTable:
    """The table at `path`, or that of the working directory, if it exists. Raises InputError as `load_prices`.

    A file that is wrong later, such as one that is being saved, does not replace the last table that was valid.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._seen = self._version()
        self._valid = self._read()

    def prices(self) -> Prices:
        """Return the prices, or no prices if there is no table."""
        return self._current()[1]

    def content(self) -> bytes:
        """Return the content of the same table; empty if there is none."""
        return self._current()[0]

    def _current(self) -> tuple[bytes, Prices]:
        version = self._version()
        if version != self._seen:
            self._seen = version
            try:
                self._valid = self._read()
            except InputError as error:
                structlog.get_logger("mira_queue.gateway").warning("price_table_invalid", reason=error.brief)
        return self._valid

    def _read(self) -> tuple[bytes, Prices]:
        text = read_table(self._path)
        return (b"", Prices()) if text is None else (text, parse_table(text, self._path or DEFAULT_TABLE))

    def _version(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            found = os.stat(self._path or DEFAULT_TABLE)
            return found.st_mtime_ns, found.st_size, found.st_ino
        return None
