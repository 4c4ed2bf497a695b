"""The loop of a run: keep the window full, write what ends, know when to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import Enum
from pathlib import Path

from mira_queue.contract.errors import InvalidRequest, QueueUnavailable
from producer.run.index import LineIndex
from producer.run.lines import InputError, InputLine, parse_line, raw_lines
from producer.run.plan import Check
from producer.run.progress import Display
from producer.run.tally import Tally
from producer.run.waiting import Reason
from producer.run.window import Window

COLLECT_S = 0.2
# An announcement can be lost with the run that took it out: this often all open jobs are looked at.
LOOK_AGAIN_S = 5.0


class End(Enum):
    """Why the loop ended."""

    COMPLETE = "every line has its answer or its error"
    ACCOUNT = "the account refused"
    INTERRUPTED = "interrupted"


class RunLoop:
    """`interrupted` is set by the first Ctrl-C; `tend` is called often, to look after the workers."""

    def __init__(
        self,
        window: Window,
        lines: Iterator[InputLine],
        tally: Tally,
        display: Display,
        waiting: Callable[[], Reason],
        tend: Callable[[], None],
        interrupted: threading.Event,
    ) -> None:
        self._window = window
        self._lines = lines
        self._tally = tally
        self._display = display
        self._waiting = waiting
        self._tend = tend
        self._interrupted = interrupted
        self._next_look_s = time.monotonic() + LOOK_AGAIN_S

    def run(self) -> End:
        """Until every line has ended, the account refuses, or somebody interrupts."""
        more = True
        while (more or self._window.open) and not self._window.account_error and not self._interrupted.is_set():
            self._tend()
            try:
                if more and self._window.has_room():
                    more = self._window.fill(self._lines)
                    # A full window at once, then answers: an empty wait only when there is nothing else to do.
                    self._step(0.01 if more and self._window.has_room() else COLLECT_S)
                else:
                    self._step(COLLECT_S)
            except QueueUnavailable as error:
                # The server may be on its way back; what is accepted is kept, and what is not will be handed in again.
                self._display.say(f"waiting for the queue's server: {error}")
                self._interrupted.wait(1.0)
        if self._window.account_error:
            return End.ACCOUNT
        return End.INTERRUPTED if self._interrupted.is_set() else End.COMPLETE

    def drain(self, patience: timedelta, hurry: threading.Event) -> None:
        """Withdraw what has not begun and wait for what runs, for `patience` at most, or until `hurry` is set."""
        end_s = time.monotonic() + patience.total_seconds()
        while not hurry.is_set():
            try:
                # Again each time: a running job that was refused or met a fault waits now, and can be withdrawn.
                self._window.withdraw()
                if not self._window.open or time.monotonic() >= end_s:
                    return
                self._step(COLLECT_S)
            except QueueUnavailable as error:
                if time.monotonic() >= end_s:
                    return
                self._display.say(f"waiting for the queue's server: {error}")
                hurry.wait(1.0)

    def _step(self, timeout_s: float) -> None:
        self._window.collect(timeout_s)
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + LOOK_AGAIN_S
            self._window.look_again()
        self._display.show(self._tally, self._waiting())


def unanswered_lines(path: Path, check: Check, index: LineIndex) -> Iterator[InputLine]:
    """The input's lines that have no answer yet, in order; lines added since it was planned are for the next run.

    Raises InputError when those that were planned are not there any more.
    """
    missing = index.total - index.answered
    changed = InputError(f"{path} has changed during the run: what is answered is kept; run the same command again")
    for number, content in raw_lines(path):
        if missing == 0:
            return
        if index.is_answered(number):
            continue
        try:
            line = parse_line(number, content, check)
        except InvalidRequest:
            raise changed from None
        if index.number_of(line.custom_id) != number:
            raise changed
        missing -= 1
        yield line
    if missing:
        raise changed
