"""Wait for a condition instead of sleeping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# Much longer than any condition takes on a busy machine, so that no test fails because the machine is slow.
PATIENCE_S = 60.0
_POLL_EVERY_S = 0.02

Found = TypeVar("Found")


def wait_until(what: str, look: Callable[[], Found | None], timeout_s: float = PATIENCE_S) -> Found:
    """Return the first true value of `look`. Raise AssertionError with `what` and the last value after `timeout_s`."""
    end_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {found!r}")
        time.sleep(_POLL_EVERY_S)
    return found
