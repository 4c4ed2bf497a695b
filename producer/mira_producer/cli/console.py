"""Output of the commands: data to standard output, and messages to standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mira_queue.contract.unicode import printable, printable_json

PROGRAM = "mira-queue"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_ENDED = 4
EXIT_INTERRUPTED = 130

JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


def data(text: str) -> None:
    """Print text to standard output, unchanged in a pipe. A newline is added if there is none."""
    shown = printable(text) if sys.stdout.isatty() else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    sys.stdout.flush()


def json_data(value: Any) -> None:
    """Print one JSON document to standard output, in UTF-8 whatever the locale is."""
    sys.stdout.flush()
    text = orjson.dumps(value, option=JSON_OPTIONS)
    sys.stdout.buffer.write(printable_json(text.decode()).encode() if sys.stdout.isatty() else text)
    sys.stdout.buffer.flush()


def say(console: Console, text: str) -> None:
    """Print text for people. On a terminal it wraps between words; in a file, a line stays a line."""
    console.print(plain(text), soft_wrap=not console.is_terminal)


def message(text: str) -> None:
    """Print a message to standard error."""
    say(Console(stderr=True), text)


def error(text: str) -> None:
    """Print a message with the program's name, since it may end up in a log next to those of other programs."""
    message(f"{PROGRAM}: {text}")


def one_line(text: str) -> str:
    """Return text of any shape as one line."""
    return " ".join(text.split())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal. In a pipe, print the same columns with a heading, separated by tabs."""
    if not sys.stdout.isatty():
        data("\n".join("\t".join(one_line(cell) for cell in row) for row in [columns, *rows]))
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    # A narrow terminal has no room for empty columns.
    wanted = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    for place in wanted:
        # The first column is what users copy from a table: an ID, or the name of a variable.
        drawn.add_column(columns[place], no_wrap=place == 0, overflow="fold")
    for row in rows:
        drawn.add_row(*(plain(row[place]) for place in wanted))
    Console().print(drawn)


def card(rows: Iterable[tuple[str, str]]) -> None:
    """Print names and values on a terminal, and an empty line. A value wraps between words, below itself."""
    drawn = Table.grid(padding=(0, 2))
    drawn.add_column(min_width=10, no_wrap=True)
    drawn.add_column(overflow="fold")
    for name, text in rows:
        drawn.add_row(name, plain(one_line(text)))
    Console().print(drawn, "")


def local_time(unix_ms: int | None) -> str:
    """Return a time of the queue's server in the user's time zone."""
    if unix_ms is None:
        return ""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def help_end(examples: Sequence[tuple[str, str]], exit_codes: Mapping[int, str]) -> str:
    """Return the end of a command's help: examples and exit codes. \\b keeps the lines."""
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in examples)
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in exit_codes.items())
    return f"\b\nExamples:\n{shown}\n\n\b\nExit codes:\n{codes}"


def plain(text: str, style: str = "") -> Text:
    """Return text from outside for a terminal: without control characters, and brackets are not markup."""
    return Text(printable(text), style)
