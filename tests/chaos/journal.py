"""Record of accepted jobs. A producer appends a line after `enqueue` has returned, and never before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path


class Journal:
    """Journal of one producer. After a kill, the restarted producer reads it."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.written = {number for number, _ in JournalReader(path).new()}
        self._end_half_line()

    def _end_half_line(self) -> None:
        # A kill can truncate a line. The next entry must begin on a new line.
        size = os.fstat(self._fd).st_size
        if size and os.pread(self._fd, 1, size - 1) != b"\n":
            os.write(self._fd, b"\n")

    def append(self, number: int, job_id: str) -> None:
        os.write(self._fd, f"{number} {job_id}\n".encode())
        os.fsync(self._fd)


class JournalReader:
    """Reads the new entries of a growing journal."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new(self) -> Iterator[tuple[int, str]]:
        """Yield (job number, job ID) of the complete lines that were added since the last call."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            number, _, job_id = line.decode().partition(" ")
            if number.isdigit() and job_id:
                yield int(number), job_id
