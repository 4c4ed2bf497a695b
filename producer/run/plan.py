"""Before anything is sent: is every line of the input fit to send, and which are answered already?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import orjson

from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.request import ChatRequest
from producer.run.index import LineIndex
from producer.run.lines import Complaint, InputLine, parse_line, raw_lines
from producer.run.options import EngineOptions
from producer.run.output import LineFile
from producer.run.source import InputError
from producer.run.tally import Tally
from producer.run.words import plural

# Enough to see the pattern; a wrong file must not scroll the screen away.
MOST_COMPLAINTS = 20

Check = Callable[[Mapping[str, Any]], ChatRequest]


class Plan:
    """The lines of a run, those of them that are answered, and its files, which are locked until `close`."""

    def __init__(self, index: LineIndex, output: LineFile, errors: LineFile, tally: Tally, closing: ExitStack) -> None:
        self.index = index
        self.output = output
        self.errors = errors
        self.tally = tally
        self._closing = closing

    @classmethod
    def make(cls, options: EngineOptions, check: Check) -> Self:
        """Read the input, and what earlier runs have written. Raises InputError."""
        with ExitStack() as stack:
            index = stack.enter_context(LineIndex())
            read_input(options.input, check, index)
            output = LineFile(options.output)
            stack.callback(output.close)
            errors = LineFile(options.errors)
            stack.callback(errors.close)
            before = read_answers(output, index, options.input)
            failed_before = read_answers(errors, index, options.input)
            return cls(index, output, errors, Tally(index.total, before, failed_before), stack.pop_all())

    @property
    def left(self) -> int:
        """Lines that have neither an answer nor an error."""
        return self.index.total - self.index.answered

    def close(self) -> None:
        self._closing.close()


def checked_lines(path: Path, check: Check, index: LineIndex) -> Iterator[InputLine | Complaint]:
    """Every line of the input, put into the index; or what is wrong with it. Raises InputError for the whole file."""
    for number, content in raw_lines(path):
        try:
            line = parse_line(number, content, check)
            index.add([(line.custom_id, number)])
        except InvalidRequest as error:
            yield Complaint(path, number, error.field, error.reason)
        except ValueError as error:
            custom_id = str(error.args[0])
            other = index.number_of(custom_id)
            yield Complaint(path, number, "custom_id", f"{custom_id!r} is that of line {other} too")
        else:
            yield line


def read_input(path: Path, check: Check, index: LineIndex) -> None:
    """Put every line of the input into the index. Raises InputError, a line for each thing wrong."""
    complaints: list[str] = []
    wrong = 0
    for line in checked_lines(path, check, index):
        if isinstance(line, Complaint):
            wrong += 1
            if len(complaints) < MOST_COMPLAINTS:
                complaints.append(str(line))
    if wrong > len(complaints):
        complaints.append(f"... and {wrong - len(complaints):,} more")
    if complaints:
        raise InputError("\n".join([*complaints, f"{wrong_lines(wrong, wrong + index.total)}: nothing was sent"]))
    if index.total == 0:
        raise InputError(f"{path}: holds no requests")


def wrong_lines(wrong: int, total: int) -> str:
    return f"{wrong:,} of {plural(total, 'line')} {'is' if wrong == 1 else 'are'} wrong"


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
