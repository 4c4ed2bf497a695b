"""Does every line of an input have exactly one line in the output or the error file?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from mira_producer.jsonl.errors import InvalidInput
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import line_id, problem_of, raw_lines
from mira_queue.contract.errors import InvalidRequest

# Of each kind: enough to see the pattern.
MOST_EXAMPLES = 20


@dataclass(slots=True)
class Faults:
    """How many there are of a kind, and the first of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        self.count += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(example)


@dataclass(slots=True)
class Verdict:
    """What was found; `broken` lines are no lines of an output file, such as half of one."""

    lines: int = 0
    answered: int = 0
    failed: int = 0
    missing: Faults = field(default_factory=Faults)
    doubled: Faults = field(default_factory=Faults)
    foreign: Faults = field(default_factory=Faults)
    broken: Faults = field(default_factory=Faults)

    @property
    def is_complete(self) -> bool:
        return not any(faults.count for _, faults in self.faults())

    def faults(self) -> Iterator[tuple[str, Faults]]:
        """(what it is called, the faults) of each kind."""
        yield "missing", self.missing
        yield "doubled", self.doubled
        yield "foreign", self.foreign
        yield "broken", self.broken


def verify(source: Path, output: Path, errors: Path | None) -> Verdict:
    """Compare the files; one that is not there has no lines. Raises InvalidInput for an input that cannot be used."""
    verdict = Verdict()
    with LineIndex() as index:
        _read_ids(source, index)
        verdict.lines = index.total
        verdict.answered = _compare(output, index, verdict)
        verdict.failed = _compare(errors, index, verdict) if errors else 0
        missing = index.total - index.answered
        if missing:
            _name_missing(source, index, verdict.missing)
            verdict.missing.count = missing
    return verdict


def _read_ids(path: Path, index: LineIndex) -> None:
    for number, content in raw_lines(path):
        try:
            index.add([(line_id(number, content), number)])
        except InvalidRequest as error:
            raise InvalidInput([problem_of(path, number, error)], 1) from None


def _compare(path: Path, index: LineIndex, verdict: Verdict) -> int:
    """Note what stands in a file; returns the number of its lines that belong to one of the input."""
    found = 0
    if not path.exists():
        return found
    for number, content in raw_lines(path):
        where = f"{path}, line {number}"
        try:
            custom_id = orjson.loads(content)["custom_id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            verdict.broken.add(f"{where}: no line of an output file")
            continue
        line = index.number_of(str(custom_id))
        if line is None:
            verdict.foreign.add(f"{where}: {str(custom_id)[:80]!r} is not in the input")
        elif not index.mark_answered(line):
            verdict.doubled.add(f"{where}: {str(custom_id)[:80]!r} stands here again")
        else:
            found += 1
    return found


def _name_missing(source: Path, index: LineIndex, missing: Faults) -> None:
    for number, content in raw_lines(source):
        if not index.is_answered(number):
            missing.add(f"{source}, line {number}: {line_id(number, content)[:80]!r} has no answer and no error")
            if missing.count == MOST_EXAMPLES:
                return
