"""Check that every line of an input has exactly one line in the output or the error file."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mira_producer.jsonl.errors import InvalidInput, Problems
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.matching import Match, matched
from mira_producer.jsonl.request_line import identity_of, line_id, problem_of, raw_lines
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.problem import Problem

# Listed of each kind: enough to see the pattern.
MAX_EXAMPLES = 20
_KINDS = ("missing", "duplicated", "unknown", "invalid", "changed")


@dataclass(slots=True)
class Verdict:
    """Result of a check.

    An output line is duplicated, unknown (not in the input), invalid (such as half a line), or changed: it is for
    another request than its input line has. `moved` counts changed lines whose request another input line has.
    `compared_by_id` counts output lines without a digest, of which only the IDs were compared.
    """

    lines: int = 0
    answered: int = 0
    failed: int = 0
    moved: int = 0
    compared_by_id: int = 0
    problems: dict[str, Problems] = field(default_factory=lambda: {kind: Problems(MAX_EXAMPLES) for kind in _KINDS})

    @property
    def is_complete(self) -> bool:
        return not any(problems.count for problems in self.problems.values())

    def to_object(self) -> dict[str, Any]:
        """Return the verdict as JSON: for each kind of problem, its count and the first examples."""
        problems = {name: {"count": each.count, "examples": each.first} for name, each in self.problems.items()}
        return {
            "complete": self.is_complete,
            "lines": self.lines,
            "answered": self.answered,
            "failed": self.failed,
            **problems,
            "moved": self.moved,
            "compared_by_id": self.compared_by_id,
        }


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
        verdict.moved = index.count_moved()
    return verdict


def _read_ids(path: Path, index: LineIndex) -> None:
    for number, content in raw_lines(path):
        try:
            custom_id, digest = identity_of(number, content)
            index.add([(custom_id, number, digest)])
        except InvalidRequest as error:
            raise InvalidInput([problem_of(path, number, error)], 1) from None


def _compare(path: Path, index: LineIndex, verdict: Verdict) -> int:
    """Compare a file with the input. Return the number of its lines that belong to it."""
    found = 0
    for line in matched(path, raw_lines(path), index) if path.exists() else ():
        if isinstance(line, Problem):
            verdict.problems[line.code].add(line)
        elif line.is_changed:
            index.add_changed(line.digest)
            verdict.problems["changed"].add(_change(path, line))
        else:
            found += 1
            verdict.compared_by_id += not line.digest
    return found


def _change(path: Path, line: Match) -> Problem:
    reason = f"{str(line.entry['custom_id'])[:80]!r} is for another request than line {line.number} of the input has"
    return Problem(str(path), line.place, "custom_id", "changed", reason)
