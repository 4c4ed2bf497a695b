"""Price table of the gateway. It is read again when its file has changed, so that new prices need no restart."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mira_producer.cost.prices import DEFAULT_TABLE, Prices, load_prices
from mira_producer.gateway.http.errors import ApiError
from mira_producer.jsonl.errors import InputError


class PriceTable:
    """The table at `path`, or that of the working directory, if it exists. Raises InputError as `load_prices`."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._seen = self._version()
        self._prices = load_prices(path)

    def prices(self) -> Prices:
        """Return the prices, or no prices if there is no table. Raises ApiError if the table is wrong by now."""
        version = self._version()
        if version != self._seen:
            try:
                self._prices = load_prices(self.path)
            except InputError:
                # Where it is, and what is wrong, is a matter of the operator: the next start of the gateway says it.
                reason = "the gateway's price table cannot be used: its operator has to fix it"
                raise ApiError(500, reason, code="no_price_table", should_retry=False) from None
            self._seen = version
        return self._prices

    def _version(self) -> tuple[int, int, int] | None:
        with suppress(OSError):
            found = os.stat(self.path or DEFAULT_TABLE)
            return found.st_mtime_ns, found.st_size, found.st_ino
        return None
