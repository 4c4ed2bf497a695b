"""Check that every line of an input has exactly one line in the output or the error file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

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
    problems: dict[str, Problems] = field(
        default_factory=lambda: {
            name: Problems(MAX_EXAMPLES) for name in ("missing", "duplicated", "unknown", "invalid")
        }
    )

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
        missing = verdict.problems["missing"]
        if missing_lines := index.total - index.answered:
            pending = (line for line in raw_lines(source) if not index.is_answered(line[0]))
            for number, content in islice(pending, MAX_EXAMPLES):
                reason = f"{line_id(number, content)[:80]!r} has no answer and no error"
                missing.add(Problem(str(source), number, "custom_id", "missing", reason))
            missing.count = missing_lines
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
    for entry in matched(path, raw_lines(path), index) if path.exists() else ():
        if isinstance(entry, Problem):
            verdict.problems[entry.code].add(entry)
        else:
            found += 1
    return found


def matched(path: Path, lines: Iterable[tuple[int, bytes]], index: LineIndex) -> Iterator[Mapping[str, Any] | Problem]:
    """Yield every line of an output or error file, after marking its input line as answered, or what is wrong."""
    for number, content in lines:
        try:
            entry = orjson.loads(content)
            custom_id = str(entry["custom_id"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            yield Problem(str(path), number, None, "invalid", "not a line of an output or error file")
            continue
        line = index.number_of(custom_id)
        if line is not None and index.mark_answered(line):
            yield entry
        else:
            code, reason = ("unknown", "is not in the input") if line is None else ("duplicated", "is answered twice")
            yield Problem(str(path), number, "custom_id", code, f"{custom_id[:80]!r} {reason}")
