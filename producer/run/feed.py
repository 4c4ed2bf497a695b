"""Which line is handed in next, and which is not."""

from __future__ import annotations

from collections.abc import Iterator

from producer.run.account import Account
from producer.run.lines import InputLine

# Lines looked at in one go: a file of lines that are all left out must not keep the loop from its other duties.
LOOK_AT = 1000


class Feed:
    """The lines that are still to be handed in, in order."""

    def __init__(self, lines: Iterator[InputLine], account: Account) -> None:
        self._lines = lines
        self._account = account
        #: No line is left.
        self.is_empty = False

    def take(self, most: int, most_bytes: int) -> list[InputLine]:
        """Some of the next lines; none is no proof that there are none."""
        taken: list[InputLine] = []
        size = 0
        for _ in range(LOOK_AT):
            if len(taken) >= most or size >= most_bytes:
                break
            line = next(self._lines, None)
            if line is None:
                self.is_empty = True
                break
            if self._account.model_of(line) in self._account.held:
                continue
            taken.append(line)
            size += len(line.request.body)
        return taken
