"""Ctrl-C and SIGTERM, as events that a loop looks at, or as a call; never as an exception anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(interrupted, hurry): set by the first and by the second Ctrl-C or SIGTERM."""
    interrupted, hurry = threading.Event(), threading.Event()
    # No word from here: the signal may have come in the middle of one.
    with interrupts_call(lambda: (hurry if interrupted.is_set() else interrupted).set()):
        yield interrupted, hurry


@contextmanager
def interrupts_call(act: Callable[[], None], *more: signal.Signals) -> Iterator[None]:
    """Call `act` for each Ctrl-C or SIGTERM, and for each of `more`, in the middle of anything."""
    before = {number: signal.signal(number, lambda *_: act()) for number in (signal.SIGINT, signal.SIGTERM, *more)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
