"""Progress of a run or a batch for people: live lines on a terminal, otherwise a line now and then."""

from __future__ import annotations

import os
import signal
import textwrap
import threading
import time
from collections.abc import Callable
from typing import Self

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mira_producer.cli.batch_view import cost_text, reason_of, tokens_of
from mira_producer.cli.console import plain, say
from mira_producer.engine.wait_reason import message_text, reason_text
from mira_producer.text import duration, flow, per_time
from mira_queue.contract.batch import Batch, BatchStatus, Reason

MIN_BAR, MAX_BAR = 8, 60
EXACT_BELOW_S = 600.0
# The same message is not repeated within this time.
REPEAT_AFTER_S = 10.0

WRAP_OFF, WRAP_ON = "\x1b[?7l", "\x1b[?7h"
ERASE_LINE, ERASE_BELOW = "\x1b[K", "\x1b[J"

Clock = Callable[[], float]


class Display:
    """Display on a file or a pipe: one line per 10 s if something changed. `show` may be called at any rate."""

    every_s = 10.0

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._next_s = clock() + self.every_s
        self._last: tuple[int, str] | None = None
        self._said, self._said_until_s = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up in a file."""

    def show(self, batch: Batch) -> None:
        # A wait that only gets shorter is not a change.
        state = (batch.done, reason_of(batch).words)
        if self._clock() >= self._next_s and state != self._last:
            self._last = state
            self._next_s = self._clock() + self.every_s
            say(self._console, plain_line(batch))

    def say(self, text: str) -> None:
        """Print a message, unless it was the last one and is recent."""
        if text != self._said or self._clock() >= self._said_until_s:
            self._said, self._said_until_s = text, self._clock() + REPEAT_AFTER_S
            self._say(text)

    def _say(self, text: str) -> None:
        say(self._console, text)


class LiveDisplay(Display):
    """Display on a terminal: an empty line and the live lines, which are redrawn in place.

    Between two drawings, the cursor stays on the empty line, and a drawing never wraps. So the position does not depend
    on how many rows the terminal needs for the lines after it was resized. rich's Live leaves old lines behind then.
    The cursor stays visible, since a killed process could not restore it.
    """

    every_s = 0.15

    def __enter__(self) -> Self:
        self._next_s = self._clock()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, self._suspend)
        return self

    def __exit__(self, *_: object) -> None:
        self._erase()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)

    def show(self, batch: Batch) -> None:
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + self.every_s
        # The last column stays free: some terminals start a new row as soon as it is written.
        width, height = max(1, self._console.width - 1), self._console.height
        with self._console.capture() as drawing:
            self._console.print(live_view(batch, width), width=width)
        lines = ["", *drawing.get().splitlines()][: max(2, height - 1)]
        up = f"\x1b[{len(lines) - 1}A"
        self._write(WRAP_OFF + f"{ERASE_LINE}\n".join(lines) + ERASE_BELOW + WRAP_ON + up)

    def _say(self, text: str) -> None:
        self._erase()
        super()._say(text)
        self._next_s = self._clock()

    def _erase(self) -> None:
        self._write(ERASE_BELOW)

    def _write(self, codes: str) -> None:
        self._console.file.write(f"\r{codes}\r")
        self._console.file.flush()

    def _suspend(self, number: int, _: object) -> None:
        """Leave the terminal to the shell on Ctrl-Z."""
        self._erase()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.signal(number, self._suspend)


def make_display(console: Console) -> Display:
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else Display(console)


def live_view(batch: Batch, width: int) -> RenderableType:
    """Return lines of at most `width` cells: progress, the reason for a wait, failures, rate, and cost.

    Parts that do not fit on a line move to the next one.
    """
    reason = reason_of(batch)
    rate, average, tokens, cost = _numbers(batch)
    numbers = flow([rate, cost, average, tokens], width)
    message = "\n".join(textwrap.wrap(message_text(reason), width))
    texts = [
        (reason_text(reason), "yellow"),
        (message, "yellow"),
        (flow(_failures(batch), width), "red"),
        (numbers, ""),
    ]
    return Group(_bar(batch, reason, width), *(plain(text, style) for text, style in texts if text))


def plain_line(batch: Batch, reason: Reason | None = None) -> str:
    """Return everything as one line. `reason` replaces the one of the batch."""
    reason = reason_of(batch) if reason is None else reason
    count, percent, left = _progress(batch, reason)
    parts = [
        f"{count} ({percent})",
        reason_text(reason),
        message_text(reason),
        ", ".join(_failures(batch)),
        left,
        *_numbers(batch),
    ]
    return "; ".join(part for part in parts if part)


def _bar(batch: Batch, reason: Reason, width: int) -> RenderableType:
    """Return a bar that takes the space that the texts leave."""
    texts = [text for text in _progress(batch, reason) if text]
    room = width - sum(cell_len(text) + 2 for text in texts)
    if room < MIN_BAR:
        return Text(flow(texts, width, between="  "), "bold")
    row = Table.grid(padding=(0, 2))
    bar = ProgressBar(max(1, batch.total), batch.done, width=min(room, MAX_BAR), complete_style="green")
    row.add_row(Text(texts[0], "bold"), Text(texts[1], "bold"), bar, *texts[2:])
    return row


def _progress(batch: Batch, reason: Reason) -> tuple[str, str, str]:
    """Return the number of lines, the percentage, and the time left. Parts that are not known are empty."""
    done, total, seconds = batch.done, batch.total, batch.seconds_left
    left = ""
    if seconds is not None and done < total:
        seconds = max(seconds, reason.wait.total_seconds())
        # In a long forecast, seconds would only flicker.
        left = f"{duration(seconds if seconds < EXACT_BELOW_S else 60 * round(seconds / 60))} left"
    # Rounded down: 100% means that every line is finished.
    return f"{done:,} of {total:,}", f"{100 * done // total if total else 100}%", left


def _failures(batch: Batch) -> list[str]:
    if not batch.failed:
        return []
    codes = [f"{count:,} {code}" for code, count in sorted(batch.codes.items(), key=lambda item: -item[1])]
    return [f"{batch.failed:,} failed" + (f": {codes[0]}" if codes else ""), *codes[1:]]


def _numbers(batch: Batch) -> tuple[str, str, str, str]:
    """Return rate, average, tokens, and cost. Parts that are not known are empty."""
    rate = average = ""
    if batch.status is BatchStatus.IN_PROGRESS and not batch.paused:
        rate = f"{per_time(batch.per_second_now)} now" if batch.per_second else "starting"
        average = f"{per_time(batch.per_second)} average" if batch.per_second else ""
    return rate, average, tokens_of(batch), cost_text(batch) if batch.answered else ""
