"""The lines of an input that have no answer yet, and which of them is submitted next."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mira_producer.cost.spending import Spending
from mira_producer.engine.account_errors import AccountErrors
from mira_producer.engine.plan import Plan
from mira_producer.jsonl.errors import InputChanged
from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.request_line import InputLine, parse_line, raw_lines
from mira_producer.request_check import Check
from mira_queue.contract.errors import InvalidRequest

# Lines examined per call: a file whose lines are all skipped must not keep the engine from its other duties.
MAX_EXAMINED = 1000


def pending_lines(path: Path, check: Check, index: LineIndex) -> Iterator[InputLine]:
    """Yield the lines that have no answer, in order; lines that were added after the plan belong to the next run.

    A line that gets its answer before it is reached is skipped. Raise InputChanged if planned lines are missing.
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


class PendingLines:
    """The lines that are still to be submitted, in order."""

    def __init__(self, plan: Plan, account_errors: AccountErrors, spending: Spending | None) -> None:
        self._lines = pending_lines(plan.files.input, plan.check, plan.index)
        self._account_errors = account_errors
        self._duplicates = plan.duplicates
        self._spending = spending
        self._next_line: InputLine | None = None
        #: No line is left.
        self.is_empty = False

    @property
    def is_blocked(self) -> bool:
        """The next line is too much for what is left of the budget, as far as is known now."""
        return self._next_line is not None and not self._fits_budget(self._next_line)

    def take(self, count: int, max_bytes: int) -> list[InputLine]:
        """Return some of the next lines. An empty list does not mean that none is left."""
        taken: list[InputLine] = []
        size = 0
        for _ in range(MAX_EXAMINED):
            if len(taken) >= count or size >= max_bytes:
                break
            line = self._next()
            if line is None:
                break
            if self._account_errors.model_of(line) in self._account_errors.held:
                continue
            if self._duplicates is not None and not self._duplicates.is_first(line.request.digest, line.number):
                continue
            if not self._fits_budget(line):
                self._next_line = line
                break
            taken.append(line)
            size += len(line.request.body)
        return taken

    def _next(self) -> InputLine | None:
        """Return the line that was blocked, or the next one."""
        line, self._next_line = self._next_line or next(self._lines, None), None
        self.is_empty = line is None
        return line

    def _fits_budget(self, line: InputLine) -> bool:
        return self._spending is None or self._spending.promise(line, self._account_errors.model_of(line))
