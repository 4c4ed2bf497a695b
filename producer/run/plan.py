"""Before anything is sent: is every line of the input fit to send, and which are answered already?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.request import ChatRequest
from producer.run.index import LineIndex
from producer.run.lines import InputError, parse_line, raw_lines
from producer.run.output import LineFile

# Enough to see the pattern; a wrong file must not scroll the screen away.
MOST_COMPLAINTS = 20

Check = Callable[[Mapping[str, Any]], ChatRequest]


def read_input(path: Path, check: Check, index: LineIndex) -> None:
    """Put every line of the input into the index. Raises InputError, a line for each thing wrong."""
    complaints: list[str] = []
    wrong = 0
    try:
        for number, content in raw_lines(path):
            try:
                line = parse_line(number, content, check)
                index.add([(line.custom_id, number)])
                continue
            except InvalidRequest as error:
                complaint = f"{path}, line {number}, {error}"
            except ValueError as error:
                custom_id = str(error.args[0])
                complaint = (
                    f"{path}, line {number}, custom_id: {custom_id!r} is that of line {index.number_of(custom_id)} too"
                )
            wrong += 1
            if len(complaints) < MOST_COMPLAINTS:
                complaints.append(complaint)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if wrong > len(complaints):
        complaints.append(f"... and {wrong - len(complaints):,} more")
    if complaints:
        raise InputError(
            "\n".join([*complaints, f"{wrong:,} of {wrong + index.total:,} lines are wrong: nothing was sent"])
        )
    if index.total == 0:
        raise InputError(f"{path}: holds no requests")


def read_answers(file: LineFile, index: LineIndex, input_path: Path) -> int:
    """Mark what stands in an output or error file as answered; returns how many lines that are. Raises InputError."""
    count = 0
    for number, content in file:
        try:
            custom_id = orjson.loads(content)["custom_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise InputError(
                f"{file.path}, line {number}: no line of an earlier run: name another output, or move this one away"
            ) from None
        line = index.number_of(str(custom_id))
        if line is None:
            raise InputError(
                f"{file.path}, line {number}, custom_id: {str(custom_id)[:80]!r} is not in {input_path}: "
                "these are the answers of another file; name another output, or move this one away"
            )
        if not index.mark_answered(line):
            raise InputError(f"{file.path}, line {number}, custom_id: {str(custom_id)[:80]!r} is answered twice")
        count += 1
    return count
