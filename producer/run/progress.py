"""What a person sees while a run goes on: a live bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from producer.run.tally import Tally

LINE_EVERY_S = 10.0


class Display(Protocol):
    """Shows a tally, and what the run waits for."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, tally: Tally, waiting: timedelta) -> None: ...

    def say(self, text: str) -> None: ...


class LiveDisplay:
    """One live line that follows the terminal's width."""

    def __init__(self, console: Console, total: int) -> None:
        self._progress = Progress(
            TextColumn("{task.completed:,} of {task.total:,}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, tally: Tally, waiting: timedelta) -> None:
        self._progress.update(self._task, completed=tally.done, note=describe(tally, waiting))

    def say(self, text: str) -> None:
        self._progress.console.print(text, highlight=False, markup=False)


class PlainDisplay:
    """A line at the beginning of every interval in which something changed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_s = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def show(self, tally: Tally, waiting: timedelta) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + LINE_EVERY_S
            self.say(f"{tally.done:,} of {tally.total:,}, {describe(tally, waiting)}")

    def say(self, text: str) -> None:
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)


def make_display(console: Console, total: int) -> Display:
    return LiveDisplay(console, total) if console.is_terminal else PlainDisplay(console)


def describe(tally: Tally, waiting: timedelta) -> str:
    """The words beside the bar: errors, the rate, the time left, the account's wait."""
    parts = []
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    if waiting > timedelta(0):
        parts.append(f"the account's limit: next call in {duration(waiting.total_seconds())}")
    elif tally.succeeded + tally.failed:
        parts.append(f"{tally.per_second:.1f}/s")
        parts.append(f"{duration((tally.total - tally.done) / tally.per_second)} left")
    return ", ".join(parts) or "starting"


def duration(seconds: float) -> str:
    """For people: 8 s, 2 min 5 s, 3 h 20 min."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
