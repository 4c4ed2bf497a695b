"""Ctrl-C and SIGTERM, as events that a loop looks at, or as a call; never as an exception anywhere."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupts() -> Iterator[tuple[threading.Event, threading.Event]]:
    """(interrupted, hurry): set by the first and by the second Ctrl-C or SIGTERM."""
    interrupted, hurry = threading.Event(), threading.Event()
    # No word from here: the signal may have come in the middle of one.
    with interrupts_call(lambda: (hurry if interrupted.is_set() else interrupted).set()):
        yield interrupted, hurry


@contextmanager
def interrupts_call(act: Callable[[], None], signals: Iterable[int] = INTERRUPTS) -> Iterator[None]:
    """Each of the signals calls `act`, in the middle of anything."""
    before = {number: signal.signal(number, lambda *_: act()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
