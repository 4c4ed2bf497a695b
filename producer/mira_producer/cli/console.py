"""What commands write: data to standard output, messages to standard error; colour and tables only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

PROGRAM = "mira-queue"

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_ENDED = 4
EXIT_INTERRUPTED = 130

JSON_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE

# An answer is a stranger's text: on a terminal, its control characters could rewrite what stands there.
_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


def data(text: str) -> None:
    """Text for standard output, untouched in a pipe; exactly one newline is added where it ends without."""
    shown = text.translate(_CONTROLS) if sys.stdout.isatty() else text
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    sys.stdout.flush()


def json_data(value: Any) -> None:
    """One JSON document for standard output; bytes as they are, since JSON is UTF-8 whatever the locale says."""
    sys.stdout.flush()
    sys.stdout.buffer.write(orjson.dumps(value, option=JSON_OPTIONS))
    sys.stdout.buffer.flush()


def message(text: str) -> None:
    """A line for the person at the terminal."""
    print(text.translate(_CONTROLS), file=sys.stderr, flush=True)


def error(text: str) -> None:
    """As `message`, saying who speaks, for it may stand in a log beside others."""
    message(f"{PROGRAM}: {text}")


def one_line(text: str) -> str:
    """Text of any shape as one line."""
    return " ".join(text.split())


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; in a pipe the same columns separated by tabs, headed, for cut and awk."""
    if not sys.stdout.isatty():
        data("\n".join("\t".join(one_line(cell) for cell in row) for row in [columns, *rows]))
        return
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    # A narrow terminal has no room for columns in which nothing stands.
    wanted = [place for place in range(len(columns)) if any(row[place] for row in rows)]
    for place in wanted:
        # The first column is what is copied from a table: an id, a variable's name.
        drawn.add_column(columns[place], no_wrap=place == 0, overflow="fold")
    for row in rows:
        # Text, not markup: a cell may hold brackets.
        drawn.add_row(*(Text(row[place].translate(_CONTROLS)) for place in wanted))
    Console().print(drawn)


def local_time(unix_ms: int | None) -> str:
    """A time of the queue's server in the reader's time zone."""
    if unix_ms is None:
        return ""
    return datetime.fromtimestamp(unix_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def help_end(examples: Sequence[tuple[str, str]], exit_codes: Mapping[int, str]) -> str:
    """The end of a command's help: examples, each with what it does, and every exit code. \\b keeps the lines."""
    shown = "\n".join(f"  {command}\n      {meaning}" for command, meaning in examples)
    codes = "\n".join(f"  {code:<4} {meaning}" for code, meaning in exit_codes.items())
    return f"\b\nExamples:\n{shown}\n\n\b\nExit codes:\n{codes}"


def give_up_standard_output() -> None:
    """The reader of our pipe is gone: what is still buffered goes nowhere, or Python would complain of it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
