"""The lines of an input that a run has still to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mira_queue.contract.errors import InvalidRequest
from producer.run.index import LineIndex
from producer.run.lines import InputLine, parse_line, raw_lines
from producer.run.plan import Check
from producer.run.source import InputError


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
