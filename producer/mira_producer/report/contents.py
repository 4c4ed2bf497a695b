"""Prompts of the lines that a report names, read from the input when the page is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.request_line import line_id, raw_lines, request_fields
from mira_producer.report.recorder import MAX_ID_CHARS, Record, beginning
from mira_queue.contract.errors import InvalidRequest


def named_lines(record: Record) -> dict[int, str]:
    """Return the custom_ids of the lines that a page shows, by their number in the input."""
    found = {line.number: line.custom_id for line in record.slowest}
    found |= {line.number: line.custom_id for examples in record.samples.values() for line in examples}
    # A line of an older record has none.
    found.pop(0, None)
    return found


def prompts_of(path: Path, lines: Mapping[int, str]) -> dict[int, str]:
    """Return the beginnings of the last messages of these lines. There is none for a line that is gone or has changed.

    Lines without interest are not parsed: a million of them take about a second.
    """
    found: dict[int, str] = {}
    last = max(lines, default=0)
    # The page matters more than what it quotes.
    with suppress(InputError):
        for number, content in raw_lines(path) if lines else ():
            if number in lines:
                with suppress(InvalidRequest, KeyError, IndexError, TypeError):
                    if line_id(number, content)[:MAX_ID_CHARS] == lines[number]:
                        found[number] = beginning(_text_of(request_fields(content)["messages"][-1]["content"]))
            if number >= last:
                break
    return found


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return " ".join(part["text"] for part in content if isinstance(part.get("text"), str))
