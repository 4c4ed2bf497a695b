"""What stands on the screen during a run: on a wide terminal, a narrow one, one that is resized, and in a file."""

from __future__ import annotations

import functools
import io
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from mira_producer.batches.progress import counted
from mira_producer.cli.progress import Display, LiveDisplay, live_view, make_display
from mira_producer.cost.prices import Price, Prices
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import NOTHING, reason_text
from mira_producer.text import per_time
from rich.console import Console

from mira_queue.contract.batch import Batch, BatchStatus, Reason
from mira_queue.contract.errors import BadRequest, ServerError
from mira_queue.contract.outcome import Completion, Failure

LIMIT = Reason("limit", "account limit: 60 per 60 s", timedelta(seconds=12))
PRICES = Prices("USD", {"mira": Price(Decimal(1), Decimal(2))})


class Clock:
    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


@functools.cache
def busy_stats() -> Stats:
    """12,345 lines in 500 s, some of which failed."""
    own = Clock()
    stats = Stats(100_000, 0, 0, PRICES, own)
    body = {"model": "mira"}
    for number in range(12_345):
        if number % 1000 == 7:
            stats.add(Failure.from_error(ServerError("down", 503, 5, 0)))
        elif number % 5000 == 9:
            stats.add(Failure.from_error(BadRequest("no", 400, 1, 0)))
        else:
            stats.add(Completion("Hi", "stop", {"prompt_tokens": 100, "completion_tokens": 37}, body))
        own.now_s += 0.04
    return stats


def batch_of(stats: Stats, reason: Reason = NOTHING) -> Batch:
    batch = Batch("batch_1", BatchStatus.IN_PROGRESS, "input.jsonl", "host:/state", 1000)
    return counted(batch, Stats(0, 0, 0, PRICES), stats, reason)


def lines_at(width: int, stats: Stats, reason: Reason = NOTHING, **options: Any) -> list[str]:
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(live_view(batch_of(stats, reason), width))
    return stream.getvalue().splitlines()


class Terminal:
    """Rows of a terminal that wraps, and that wraps its lines again when it is resized, as most do."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.rows: list[str] = [""]
        self.wrapped: list[bool] = [False]  # the row continues in the next one
        self.row = self.column = 0
        self.wraps = True

    def write(self, text: str) -> None:
        for code, letter, plain in re.findall(r"\x1b\[([?0-9;]*)([A-Za-z])|(.)", text, re.DOTALL):
            if plain == "\n":
                self._next_row(wrapped=False)
            elif plain == "\r":
                self.column = 0
            elif plain:
                self._put(plain)
            elif letter == "A":
                self.row = max(0, self.row - int(code))
            elif letter in "JK":
                self.rows[self.row] = self.rows[self.row][: self.column]
                if letter == "J":
                    self.wrapped[self.row] = False
                    del self.rows[self.row + 1 :], self.wrapped[self.row + 1 :]
            elif code == "?7":
                self.wraps = letter == "h"
            else:
                assert letter == "m", f"a code this terminal does not know: {code}{letter}"

    def resize(self, width: int) -> None:
        """Wrap every line again; the cursor stays at its character."""
        first = self.row
        while first and self.wrapped[first - 1]:
            first -= 1
        offset = sum(len(row) for row in self.rows[first : self.row]) + self.column
        above, below = self._lines(0, first), self._lines(first, len(self.rows))
        self.width = width
        self.rows, self.wrapped = [], []
        for number, line in enumerate([*above, *below]):
            if number == len(above):
                self.row, self.column = len(self.rows) + offset // width, offset % width
            parts = [line[at : at + width] for at in range(0, len(line), width)] or [""]
            self.rows += parts
            self.wrapped += [True] * (len(parts) - 1) + [False]

    def text(self) -> list[str]:
        return [line.rstrip() for line in self._lines(0, len(self.rows)) if line.strip()]

    def _lines(self, start: int, end: int) -> list[str]:
        lines: list[str] = []
        is_open = False
        for row, is_wrapped in zip(self.rows[start:end], self.wrapped[start:end], strict=True):
            lines[-1:] = [lines[-1] + row] if is_open else [*lines[-1:], row]
            is_open = is_wrapped
        return lines

    def _put(self, character: str) -> None:
        if self.column >= self.width:
            if self.wraps:
                self._next_row(wrapped=True)
            else:
                self.column = self.width - 1
        row = self.rows[self.row].ljust(self.column)
        self.rows[self.row] = row[: self.column] + character + row[self.column + 1 :]
        self.column += 1

    def _next_row(self, *, wrapped: bool) -> None:
        self.wrapped[self.row] = wrapped
        self.row, self.column = self.row + 1, 0
        if self.row == len(self.rows):
            self.rows.append("")
            self.wrapped.append(False)


class Screen:
    """A console on a terminal."""

    def __init__(self, width: int = 100, **options: Any) -> None:
        self.clock = Clock()
        self.terminal = Terminal(width)
        self.stream = io.StringIO()
        self.console = Console(
            file=self.stream,
            force_terminal=True,
            width=width,
            height=24,
            legacy_windows=False,
            **{"color_system": None, **options},
        )
        self.display = LiveDisplay(self.console, self.clock)

    def show(self, stats: Stats, reason: Reason = NOTHING) -> list[str]:
        self.clock.now_s += 1
        self.display.show(batch_of(stats, reason))
        return self.seen()

    def seen(self) -> list[str]:
        self.terminal.write(self.stream.getvalue())
        self.stream.seek(0)
        self.stream.truncate()
        return self.terminal.text()

    def resize(self, width: int) -> None:
        if width != self.terminal.width:
            self.terminal.resize(width)
        self.console.width = width


# --- what is said ---


def test_a_wide_terminal_shows_everything() -> None:
    first, wait, failures, numbers = lines_at(110, busy_stats(), LIMIT)

    assert re.fullmatch("12,345 of 100,000  12%  ━{7} +58 min left", first)
    assert wait == reason_text(LIMIT)
    assert failures == "16 failed: 13 server_error (503), 3 bad_request (400)"
    assert numbers == "25.0/s now, 2.15 USD, 25.0/s average, 1,232,900 tokens in, 456,173 out"


@pytest.mark.parametrize("width", [39, 79])
def test_a_narrower_terminal_shows_the_same_in_more_lines_and_breaks_no_words(width: int) -> None:
    wide, narrow = (" ".join(lines_at(each, busy_stats(), LIMIT)) for each in (110, width))

    assert [word for word in narrow.split() if "━" not in word] == [word for word in wide.split() if "━" not in word]


def test_no_line_is_wider_than_the_terminal() -> None:
    for width in range(1, 130):
        lines = lines_at(width, busy_stats(), LIMIT)
        assert all(0 < len(line) <= width for line in lines)


def test_a_hundred_percent_is_said_when_all_is_done() -> None:
    stats = Stats(1000, 999, 0)
    assert "99%" in lines_at(80, stats)[0]
    stats.add(Completion("Hi", "stop", {}, {}))
    assert "100%" in lines_at(80, stats)[0]


def test_before_the_first_answer_nothing_is_made_up() -> None:
    assert [line.strip() for line in lines_at(80, Stats(10, 0, 0))] == ["0 of 10  0%", "starting"]


def test_the_time_left_is_no_shorter_than_the_wait() -> None:
    reason = Reason("limit", "account limit", timedelta(hours=3))

    assert lines_at(110, busy_stats(), reason)[0].endswith("3 h left")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {}])
def test_the_bar_shows_the_progress_without_color_too(environment: dict[str, str]) -> None:
    options: dict[str, Any] = {"_environ": environment, "force_terminal": True, "color_system": "standard"}
    line = lines_at(110, busy_stats(), **options)[0]
    full, _, rest = line.partition("╸" if "╸" in line else "╺" if "╺" in line else "  5")

    assert full.count("━") == 60 * 12 // 100
    assert ("━" in rest) is (not environment)


def test_a_console_without_unicode_gets_plain_signs() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    stream = Ascii()
    Console(file=stream, width=100).print(live_view(batch_of(busy_stats()), 100))

    line = stream.getvalue().splitlines()[0]
    assert line.isascii()
    assert "---" in line


@pytest.mark.parametrize(
    ("per_second", "words"),
    [(0, "0/s"), (0.005, "18.0/h"), (0.5, "30.0/min"), (1, "1.0/s"), (24.13, "24.1/s"), (1234.5, "1,234/s")],
)
def test_rates_are_never_a_row_of_zeros(per_second: float, words: str) -> None:
    assert per_time(per_second) == words


# --- on a terminal ---


def test_the_live_lines_stay_in_their_place() -> None:
    screen = Screen()
    stats = busy_stats()
    screen.console.print("before")
    for reason in (LIMIT, NOTHING, LIMIT):
        seen = screen.show(stats, reason)

    assert seen[0] == "before"
    assert len(seen) == 5
    assert sum("12,345 of" in line for line in seen) == 1


def test_a_message_is_printed_above_the_live_lines() -> None:
    screen = Screen()
    screen.show(busy_stats())
    screen.display.say("a worker has died (exit code -9); starting another; its jobs are safe")
    seen = screen.show(busy_stats())

    assert seen[0].startswith("a worker has died")
    assert sum("12,345 of" in line for line in seen) == 1


@pytest.mark.parametrize("widths", [(100, 40, 100), (100, 80, 60, 40, 20, 10), (40, 120), (61, 60, 59)])
@pytest.mark.parametrize("is_late", [False, True])
def test_resizing_leaves_nothing_behind(widths: tuple[int, ...], is_late: bool) -> None:
    """Some terminals wrap their lines again a moment before they report the new size."""
    screen = Screen(widths[0])
    stats = busy_stats()
    screen.console.print("before")
    screen.show(stats, LIMIT)
    for width in widths[1:]:
        screen.terminal.resize(width)
        if is_late:
            screen.show(stats, LIMIT)
        screen.resize(width)
        seen = screen.show(stats, LIMIT)
        assert seen[0] == "before"
        assert sum("12,345" in line for line in seen) == 1
        assert max(len(line) for line in seen[1:]) < width


def test_at_the_end_the_live_lines_are_gone() -> None:
    screen = Screen()
    with screen.display:
        screen.show(busy_stats(), LIMIT)
    screen.console.print("this run: 12,345 lines")

    assert screen.seen() == ["this run: 12,345 lines"]


def test_drawing_does_not_follow_every_step_of_a_fast_run() -> None:
    screen = Screen()
    stats = busy_stats()
    drawn = 0
    for _ in range(1000):
        screen.clock.now_s += 0.001
        screen.display.show(batch_of(stats))
        drawn += bool(screen.stream.getvalue())
        screen.seen()

    assert drawn <= 8


def test_a_terminal_of_few_rows_is_not_overrun() -> None:
    screen = Screen(40)
    screen.console.height = 3

    assert len(screen.show(busy_stats(), LIMIT)) == 1
    assert len(screen.terminal.rows) == 2


# --- elsewhere ---


class Log:
    """A display that writes to a file."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        self.display = Display(Console(file=self.stream, width=40), self.clock)

    def lines(self) -> list[str]:
        return self.stream.getvalue().splitlines()


def test_redirected_output_is_a_whole_line_every_ten_seconds() -> None:
    log = Log()
    stats = Stats(1000, 0, 0, PRICES, log.clock)
    for _ in range(600):
        log.clock.now_s += 0.1
        stats.add(Completion("Hi", "stop", {"prompt_tokens": 10, "completion_tokens": 5}, {"model": "mira"}))
        log.display.show(batch_of(stats))

    assert 5 <= len(log.lines()) <= 6
    assert log.lines()[0] == (
        "100 of 1,000 (10%); 1 min 30 s left; 10.0/s now; 10.0/s average; 1,000 tokens in, 500 out; 0.0020 USD"
    )
    assert "\x1b" not in log.stream.getvalue()


def test_a_long_wait_is_told_once_and_not_every_ten_seconds() -> None:
    log = Log()
    stats = Stats(10, 0, 0, clock=log.clock)
    for second in range(3000):
        log.clock.now_s += 1
        reason = Reason("limit", "account limit", timedelta(seconds=3000 - second))
        log.display.show(batch_of(stats, reason))

    assert log.lines() == ["0 of 10 (0%); account limit, next call in 49 min 51 s; starting"]


def test_the_same_message_again_and_again_is_said_now_and_then() -> None:
    log = Log()
    for _ in range(20):
        log.clock.now_s += 1
        log.display.say("queue server unavailable: no connection")

    assert len(log.lines()) == 2


def test_the_display_is_chosen_by_what_it_writes_to() -> None:
    assert type(make_display(Console(file=io.StringIO()))) is Display
    assert type(make_display(Console(file=io.StringIO(), force_terminal=True))) is LiveDisplay
