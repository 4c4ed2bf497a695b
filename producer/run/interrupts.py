"""Ctrl-C and SIGTERM, as events that a loop looks at."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interrupts() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(interrupted, hurry): set by the first and by the second Ctrl-C or SIGTERM, instead of an exception anywhere."""
    interrupted, hurry = threading.Event(), threading.Event()

    def note(number: int, frame: FrameType | None) -> None:
        # No word from here: the signal may have come in the middle of one.
        (hurry if interrupted.is_set() else interrupted).set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupted, hurry
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
