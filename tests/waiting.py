"""Waiting in tests: for a state, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.01

T = TypeVar("T")


def wait_until(predicate: Callable[[], T], timeout_s: float = 30) -> T:
    """Call the predicate until it is true, and return what it returned; fails the test when that takes too long."""
    deadline = time.monotonic() + timeout_s
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {getattr(predicate, '__qualname__', predicate)}")
        time.sleep(POLL_S)
    return value
