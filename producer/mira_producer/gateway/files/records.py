"""Records in the state directory, as this version reads them.

Another version may have written them, or a failing disk. One bad record must not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog

T = TypeVar("T")


class Records:
    """Reader of records. A record that cannot be read is logged once, and stays for the operator to look at."""

    def __init__(self) -> None:
        self._reported: set[Path] = set()

    def read(self, path: Path, parse: Callable[[Mapping[str, Any]], T]) -> T | None:
        """Return the record, or None if it does not exist, or cannot be read. `parse` raises ValueError."""
        try:
            found = orjson.loads(path.read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it is not an object")
            return parse(found)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            if path not in self._reported:
                self._reported.add(path)
                structlog.get_logger("mira_queue.gateway").warning(
                    "record_unreadable", path=str(path), error=str(error)
                )
            return None
