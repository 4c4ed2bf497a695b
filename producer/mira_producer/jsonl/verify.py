"""Check that every line of an input has exactly one line in the output or the error file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import orjson

from mira_producer.jsonl.errors import InvalidInput, Problems
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import line_id, problem_of, raw_lines
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import Problem

# Listed of each kind: enough to see the pattern.
MAX_EXAMPLES = 20


@dataclass(slots=True)
class Verdict:
    """Result of a check. An output line is duplicated, unknown (not in the input), or invalid (such as half a line)."""

    lines: int = 0
    answered: int = 0
    failed: int = 0
    missing: Problems = field(default_factory=lambda: Problems(MAX_EXAMPLES))
    duplicated: Problems = field(default_factory=lambda: Problems(MAX_EXAMPLES))
    unknown: Problems = field(default_factory=lambda: Problems(MAX_EXAMPLES))
    invalid: Problems = field(default_factory=lambda: Problems(MAX_EXAMPLES))

    @property
    def problems(self) -> dict[str, Problems]:
        return {name: getattr(self, name) for name in ("missing", "duplicated", "unknown", "invalid")}

    @property
    def is_complete(self) -> bool:
        return not any(problems.count for problems in self.problems.values())


def verify(source: Path, output: Path, errors: Path | None) -> Verdict:
    """Compare the files. One that does not exist has no lines. Raises InvalidInput."""
    verdict = Verdict()
    with LineIndex() as index:
        _read_ids(source, index)
        verdict.lines = index.total
        verdict.answered = _compare(output, index, verdict)
        verdict.failed = _compare(errors, index, verdict) if errors else 0
        if missing := index.total - index.answered:
            pending = (line for line in raw_lines(source) if not index.is_answered(line[0]))
            _add_missing(source, islice(pending, MAX_EXAMPLES), verdict.missing)
            verdict.missing.count = missing
    return verdict


def _read_ids(path: Path, index: LineIndex) -> None:
    for number, content in raw_lines(path):
        try:
            index.add([(line_id(number, content), number)])
        except InvalidRequest as error:
            raise InvalidInput([problem_of(path, number, error)], 1) from None


def _compare(path: Path, index: LineIndex, verdict: Verdict) -> int:
    """Compare a file with the input. Return the number of its lines that belong to it."""
    found = 0
    if not path.exists():
        return found
    for number, content in raw_lines(path):
        try:
            custom_id = str(orjson.loads(content)["custom_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            verdict.invalid.add(Problem(str(path), number, code="invalid", reason="not a line of an output file"))
            continue
        line = index.number_of(custom_id)
        if line is None:
            verdict.unknown.add(_problem(path, number, "unknown", f"{custom_id[:80]!r} is not in the input"))
        elif not index.mark_answered(line):
            verdict.duplicated.add(_problem(path, number, "duplicated", f"{custom_id[:80]!r} has another line"))
        else:
            found += 1
    return found


def _add_missing(path: Path, lines: Iterable[tuple[int, bytes]], missing: Problems) -> None:
    for number, content in lines:
        reason = f"{line_id(number, content)[:80]!r} has no answer and no error"
        missing.add(_problem(path, number, "missing", reason))


def _problem(path: Path, number: int, code: str, reason: str) -> Problem:
    return Problem(str(path), number, "custom_id", code, reason)
