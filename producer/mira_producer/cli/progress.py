"""What a person sees while a run goes on: some live lines on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

from rich.cells import cell_len
from rich.console import Console
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text

from mira_producer.engine.wait_reason import Reason, duration
from mira_producer.text import per_time

LINE_EVERY_S = 10.0
DRAW_EVERY_S = 0.15
SMALLEST_BAR, LARGEST_BAR = 8, 60
BETWEEN = "  "
EXACT_BELOW_S = 600.0

TO_THE_END_OF_THE_ROW = Control((ControlType.ERASE_IN_LINE, 0))

Clock = Callable[[], float]


class Counts(Protocol):
    """What is shown of a run, or of a batch: see Stats for what each means."""

    @property
    def total(self) -> int: ...
    @property
    def done(self) -> int: ...
    @property
    def is_going(self) -> bool: ...
    @property
    def succeeded(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def codes(self) -> Mapping[str, int]: ...
    @property
    def per_second(self) -> float: ...
    @property
    def per_second_now(self) -> float: ...
    @property
    def seconds_left(self) -> float | None: ...
    @property
    def has_tokens(self) -> bool: ...
    def tokens_text(self) -> str: ...
    def cost_text(self) -> str: ...


class Display(Protocol):
    """Shows a stats, and what the run waits for; `show` may be called as often as one likes."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, stats: Counts, reason: Reason) -> None: ...

    def say(self, text: str) -> None: ...


def make_display(console: Console) -> Display:
    return LiveDisplay(console) if console.is_terminal and not console.is_dumb_terminal else PlainDisplay(console)


class LiveDisplay:
    """Lines that are drawn again and again in the same place, and follow the terminal's width.

    rich's own Live takes the lines of the last drawing for as many rows as they were: on a terminal that was made
    narrower they have become more, and what it does not erase piles up.
    """

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._drawn: list[int] = []  # the widths of the lines that stand there
        self._width = 0  # of the terminal then
        self._next_s = clock()
        self._said = _Said(clock)

    def __enter__(self) -> Self:
        # The cursor stays visible: a run that is killed could not bring it back.
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._erase()

    def show(self, stats: Counts, reason: Reason) -> None:
        if self._clock() < self._next_s:
            return
        self._next_s = self._clock() + DRAW_EVERY_S
        # The last column stays free: a terminal may begin a new row as soon as it is written to.
        width, height = self._console.width - 1, self._console.height
        lines = live_lines(stats, reason, width, ascii_only=self._console.options.ascii_only)[: max(1, height - 1)]
        with self._console:
            if width != self._width or len(lines) < len(self._drawn):
                self._erase()
            # Written over, not erased and written: nothing flickers.
            self._console.control(
                Control(ControlType.CARRIAGE_RETURN, *[(ControlType.CURSOR_UP, 1)] * len(self._drawn))
            )
            for line in lines:
                self._console.print(line, end="", no_wrap=True, overflow="crop", crop=True)
                self._console.control(TO_THE_END_OF_THE_ROW)
                self._console.print()
        self._drawn, self._width = [line.cell_len for line in lines], width

    def say(self, text: str) -> None:
        if self._said.just_now(text):
            return
        self._erase()
        self._console.print(text, highlight=False, markup=False)
        self._next_s = self._clock()

    def _erase(self) -> None:
        width = max(1, self._console.width)
        rows = sum(max(1, -(-cells // width)) for cells in self._drawn)
        self._drawn = []
        if rows:
            codes = [(ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)] * rows
            self._console.control(Control(ControlType.CARRIAGE_RETURN, *codes))


class PlainDisplay:
    """A line at the end of every interval in which something changed."""

    def __init__(self, console: Console, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._next_s = clock() + LINE_EVERY_S
        self._last: tuple[int, str] | None = None
        self._said = _Said(clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, stats: Counts, reason: Reason) -> None:
        now_s = self._clock()
        # A wait that only grows shorter is no news.
        state = (stats.done, reason.words)
        if now_s < self._next_s or state == self._last:
            return
        self._last = state
        self._next_s = now_s + LINE_EVERY_S
        self._print(plain_line(stats, reason))

    def say(self, text: str) -> None:
        if not self._said.just_now(text):
            self._print(text)

    def _print(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


class _Said:
    """Holds back a sentence that was the last one, and was said a moment ago."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._text = ""
        self._until_s = 0.0

    def just_now(self, text: str) -> bool:
        if text == self._text and self._clock() < self._until_s:
            return True
        self._text, self._until_s = text, self._clock() + LINE_EVERY_S
        return False


def live_lines(stats: Counts, reason: Reason, width: int, *, ascii_only: bool = False) -> list[Text]:
    """Lines of at most `width` cells, what matters most first: how far, why not further, what failed, how fast, what
    it has cost. What does not fit beside another goes below it; only what is wider than the terminal is cut.
    """
    lines = _bar_lines(stats, reason, width, ascii_only=ascii_only)
    if reason.words:
        lines += _flow([str(reason)], width, "yellow")
    if stats.failed:
        lines += _flow(_failed_parts(stats), width, "red")
    numbers = [part for part in (_rate(stats), _cost(stats), _average(stats), _tokens(stats)) if part]
    return [*lines, *_flow(numbers, width, "")] if numbers else lines


def plain_line(stats: Counts, reason: Reason) -> str:
    """All of it in one line."""
    parts = [
        f"{_count(stats)} ({_percent(stats)})",
        str(reason),
        ", ".join(_failed_parts(stats)) if stats.failed else "",
        _left(stats, reason),
        _rate(stats),
        _average(stats),
        _tokens(stats),
        _cost(stats),
    ]
    return "; ".join(part for part in parts if part)


def _bar_lines(stats: Counts, reason: Reason, width: int, *, ascii_only: bool) -> list[Text]:
    """How far it is; the bar takes the room that the words leave."""
    line = Text(_count(stats), style="bold", no_wrap=True)
    left = _left(stats, reason)
    room = width - line.cell_len
    for part in (_percent(stats), left):
        room -= len(BETWEEN) + cell_len(part)
    if width - line.cell_len >= len(BETWEEN) + len("100%"):
        line.append(BETWEEN + _percent(stats))
    if room >= SMALLEST_BAR + len(BETWEEN):
        cells = min(room - len(BETWEEN), LARGEST_BAR)
        full = int(cells * _fraction(stats))
        line.append(BETWEEN).append(("#" if ascii_only else "━") * full, "not bold green")
        line.append(("-" if ascii_only else "━") * (cells - full), "not bold bright_black")
    return _flow_on([line], [left] if left else [], width, BETWEEN)


def _flow(parts: list[str], width: int, style: str) -> list[Text]:
    """Parts side by side while they fit, the next ones below."""
    return _flow_on([Text(parts[0], style=style, no_wrap=True)], parts[1:], width, ", ")


def _flow_on(lines: list[Text], parts: list[str], width: int, between: str) -> list[Text]:
    for part in parts:
        if lines[-1].cell_len + len(between) + cell_len(part) <= width:
            lines[-1].append(between + part)
        else:
            lines.append(Text(part, style=lines[-1].style, no_wrap=True))
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return lines


def _count(stats: Counts) -> str:
    return f"{stats.done:,} of {stats.total:,}"


def _fraction(stats: Counts) -> float:
    return min(1.0, stats.done / stats.total) if stats.total else 1.0


def _percent(stats: Counts) -> str:
    # Down, never up: 100% is when all is done.
    return f"{int(100 * _fraction(stats))}%"


def _left(stats: Counts, reason: Reason) -> str:
    seconds = stats.seconds_left
    if seconds is None or stats.done >= stats.total:
        return ""
    seconds = max(seconds, reason.wait.total_seconds())
    # Seconds of a forecast of an hour would only flicker.
    return f"{duration(seconds if seconds < EXACT_BELOW_S else 60 * round(seconds / 60))} left"


def _failed_parts(stats: Counts) -> list[str]:
    codes = [f"{count:,} {code}" for code, count in sorted(stats.codes.items(), key=lambda item: -item[1])]
    return [f"{stats.failed:,} failed: {codes[0]}", *codes[1:]] if codes else [f"{stats.failed:,} failed"]


def _rate(stats: Counts) -> str:
    if not stats.is_going:
        return ""
    return f"{per_time(stats.per_second_now)} now" if stats.per_second else "starting"


def _average(stats: Counts) -> str:
    return f"{per_time(stats.per_second)} average" if stats.is_going and stats.per_second else ""


def _tokens(stats: Counts) -> str:
    return stats.tokens_text() if stats.has_tokens else ""


def _cost(stats: Counts) -> str:
    return stats.cost_text() if stats.succeeded else ""
