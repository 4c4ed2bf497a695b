"""Waiting for something to become true, instead of sleeping and hoping."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

# Far beyond what anything here takes on a busy machine: a test that fails must not fail for want of time.
PATIENCE_S = 60.0
_LOOK_EVERY_S = 0.02

Found = TypeVar("Found")


def wait_until(what: str, look: Callable[[], Found | None], timeout_s: float = PATIENCE_S) -> Found:
    """The first true value that `look` gives. Fails with `what`, and what was seen last, when there is none in time."""
    end_s = time.monotonic() + timeout_s
    while not (found := look()):
        if time.monotonic() > end_s:
            raise AssertionError(f"not within {timeout_s:g} s: {what}; last seen: {found!r}")
        time.sleep(_LOOK_EVERY_S)
    return found
