"""The lines of an input that a run has still to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mira_producer.engine.plan import Check
from mira_producer.jsonl.errors import InputChanged
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine, parse_line, raw_lines
from mira_queue.contract.errors import InvalidRequest


def unanswered_lines(path: Path, check: Check, index: LineIndex) -> Iterator[InputLine]:
    """The input's lines that have no answer yet, in order; lines added since it was planned are for the next run.

    A line that is answered before it is its turn is left out. Raises InputChanged if those that were planned are not
    there any more.
    """
    seen = 0
    for number, content in raw_lines(path):
        if seen == index.total:
            return
        seen += 1
        if index.is_answered(number):
            continue
        try:
            line = parse_line(number, content, check)
        except InvalidRequest:
            raise InputChanged(path) from None
        if index.number_of(line.custom_id) != number:
            raise InputChanged(path)
        yield line
    if seen < index.total:
        raise InputChanged(path)
