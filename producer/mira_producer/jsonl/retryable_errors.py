"""Lines that the account refused: their errors stand in the error file, and they run again when their run goes on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.result_file import RUNS_AGAIN, ResultFile


def is_retryable(entry: Mapping[str, Any]) -> bool:
    """Whether an error line says that its line runs again."""
    error = entry.get("error")
    return isinstance(error, dict) and error.get(RUNS_AGAIN) is True


class RetryableErrors:
    """Those of one error file. The file says which they are: whoever is killed, the next run knows them."""

    def __init__(self, errors: ResultFile, index: LineIndex) -> None:
        self._errors = errors
        self._index = index
        self.count = 0

    def take_out(self) -> int:
        """They run again: they stand in no file any more. Returns how many. Raises InputError."""
        numbers: list[int] = []
        if self.count:
            self._errors.replace(self._others(numbers))
        # Not before: of a disk that is full, the old file is left, in which they stand.
        self._index.mark_unanswered(numbers)
        self.count = 0
        return len(numbers)

    def make_final(self) -> None:
        """They do not run again: their error is their outcome. Raises InputError."""
        if self.count:
            self._errors.replace(self._as_final())
        self.count = 0

    def _others(self, numbers: list[int]) -> Iterator[bytes]:
        """All other lines; the numbers of those that are left out go to `numbers`."""
        for _, line in self._errors:
            entry = orjson.loads(line)
            if is_retryable(entry):
                number = self._index.number_of(str(entry["custom_id"]))
                assert number is not None, "the file's lines were compared with the input's"
                numbers.append(number)
            else:
                yield line

    def _as_final(self) -> Iterator[bytes]:
        for _, line in self._errors:
            entry = orjson.loads(line)
            if is_retryable(entry):
                del entry["error"][RUNS_AGAIN]
                yield orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
            else:
                yield line
