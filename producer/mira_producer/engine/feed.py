"""Which line is handed in next, and which is not."""

from __future__ import annotations

from collections.abc import Iterator

from mira_producer.cost.spending import Spending
from mira_producer.engine.account_errors import Account
from mira_producer.jsonl.duplicates import Duplicates
from mira_producer.jsonl.request_line import InputLine

# Lines looked at in one go: a file of lines that are all left out must not keep the loop from its other duties.
LOOK_AT = 1000


class Feed:
    """The lines that are still to be handed in, in order."""

    def __init__(
        self, lines: Iterator[InputLine], account: Account, duplicates: Duplicates | None, spending: Spending | None
    ) -> None:
        self._lines = lines
        self._account = account
        self._duplicates = duplicates
        self._spending = spending
        self._ahead: InputLine | None = None
        #: No line is left.
        self.is_empty = False

    @property
    def is_blocked(self) -> bool:
        """The next line is too much for what is left of the budget, as far as is known now."""
        return self._ahead is not None and not self._promise(self._ahead)

    def take(self, most: int, most_bytes: int) -> list[InputLine]:
        """Some of the next lines; none is no proof that there are none."""
        taken: list[InputLine] = []
        size = 0
        for _ in range(LOOK_AT):
            if len(taken) >= most or size >= most_bytes:
                break
            line = self._next()
            if line is None:
                break
            if self._account.model_of(line) in self._account.held:
                continue
            if self._duplicates is not None and not self._duplicates.is_first(line.request.digest, line.number):
                continue
            if not self._promise(line):
                self._ahead = line
                break
            taken.append(line)
            size += len(line.request.body)
        return taken

    def _next(self) -> InputLine | None:
        """The line that was blocked, or the next one."""
        line, self._ahead = self._ahead or next(self._lines, None), None
        self.is_empty = line is None
        return line

    def _promise(self, line: InputLine) -> bool:
        return self._spending is None or self._spending.promise(line, self._account.model_of(line))
