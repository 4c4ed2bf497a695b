"""Errors that the account caused: they are in the error file, and their lines run again when the run resumes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from mira_producer.jsonl.line_index import LineIndex
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import RUNS_AGAIN, is_retryable


class RetryableErrors:
    """The retryable errors of one error file. The file marks them, so the next run knows them after a crash."""

    def __init__(self, errors: ResultFile, index: LineIndex) -> None:
        self._errors = errors
        self._index = index
        self.count = 0

    def remove(self) -> int:
        """Remove the lines from the file, so that they run again. Return their number. Raises ResultFileError."""
        numbers: list[int] = []
        if self.count:
            self._errors.remove(is_retryable, lambda entries: numbers.extend(map(self._number, entries)))
        # Not earlier: if the storage is full, the lines are still in the file.
        self._index.mark_pending(numbers)
        self.count = 0
        return len(numbers)

    def make_final(self) -> None:
        """Keep the errors as the outcomes of their lines. Raises ResultFileError."""
        if self.count:
            self._errors.replace(self._as_final())
        self.count = 0

    def _number(self, entry: Mapping[str, Any]) -> int:
        number = self._index.number_of(str(entry["custom_id"]))
        assert number is not None, "the file's lines were compared with the input's"
        return number

    def _as_final(self) -> Iterator[bytes]:
        for _, line in self._errors:
            entry = orjson.loads(line)
            if is_retryable(entry):
                del entry["error"][RUNS_AGAIN]
                line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
            yield line
