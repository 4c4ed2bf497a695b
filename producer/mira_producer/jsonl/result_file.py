"""Output and error files: one complete JSON line for each finished line. The files are the record of a run."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from itertools import count as counted_from
from pathlib import Path
from typing import Any

import orjson

from mira_producer.jsonl.errors import FileReplaced, ResultFileError, StorageFull
from mira_queue.runtime.private_files import OUTPUT_FILE_MODE, output_opener

# Lines that `remove` reports together.
REMOVED_AT_ONCE = 1000
_BUFFER_BYTES = 1024 * 1024


class ResultFile:
    """A file that always holds complete lines, and that one run at a time writes.

    Opening it takes a lock, and removes the incomplete line that a crash may have left. Raises ResultFileError. Other
    programs do not know the lock: each write raises FileReplaced if one of them changed the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # A run that closes the file without a line removes it. If that is between our open and our lock, our file has
        # no name, and its lines would be lost.
        while os.fstat(fd := _open_locked(path)).st_nlink == 0:
            os.close(fd)
        self._fd = fd
        self._remove_incomplete_line()
        self._size = os.fstat(fd).st_size
        self._replaced: FileReplaced | None = None

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield (number, content) of its lines."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line

    def append(self, lines: list[bytes]) -> None:
        """Write the lines, and return when the disk has them. Raises StorageFull, and then writes nothing."""
        self.check()
        try:
            _write(self.path, self._fd, lines)
        except BaseException:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += sum(map(len, lines))
        # Again: if an editor replaced the file in between, the lines are not in it, and their jobs must stay.
        self.check()

    @property
    def has_lines(self) -> bool:
        """True if the file has lines, as far as this run knows."""
        return self._size > 0

    def check(self) -> None:
        """Raise FileReplaced if another program has changed, replaced, or removed the file since it was opened.

        The lines that were written are saved first, unless the other program has changed the file itself.
        """
        if self._replaced is None:
            is_there, size = self._is_there(), os.fstat(self._fd).st_size
            if is_there and size == self._size:
                return
            # Only once: every later write fails for the same reason.
            saved = None if is_there else self._save()
            self._replaced = FileReplaced(self.path, saved, size=size, written=self._size)
        raise self._replaced

    def _is_there(self) -> bool:
        """Return True if the path still leads to the file that is open."""
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except OSError:
            return False

    def _save(self) -> Path:
        """Copy the open file to its path, or if another file is there, to a new one next to it. Return that path."""
        names = (f"{self.path.name}.saved{number}" for number in chain([""], counted_from(2)))
        for path in chain([self.path], map(self.path.with_name, names)):
            try:
                _copy(self._fd, path)
            except FileExistsError:
                continue
            except OSError as error:
                reason = f"and its lines cannot be saved: {error.strerror}"
                raise ResultFileError(f"{self.path}: another program replaced or removed it, {reason}") from None
            return path
        raise AssertionError("there is always one more name")

    def replace(self, lines: Iterable[bytes]) -> None:
        """Replace all lines in one step. The lock is held throughout. Raises StorageFull, and then changes nothing."""
        self.check()
        path = self.path.resolve()
        new = path.with_name(f".{path.name}.new")
        fd = _open_locked(new)
        try:
            os.ftruncate(fd, 0)
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            _write(self.path, fd, lines)
            self.check()
            new.replace(path)
        except BaseException:
            new.unlink(missing_ok=True)
            os.close(fd)
            raise
        os.close(self._fd)
        self._fd, self._size = fd, os.fstat(fd).st_size

    def remove(
        self, is_wanted: Callable[[dict[str, Any]], bool], removing: Callable[[Sequence[dict[str, Any]]], None]
    ) -> int:
        """Remove the lines that are wanted, in one step. Return their number.

        `removing` gets them, some at a time, before the file changes.
        """
        count = 0

        def rest() -> Iterator[bytes]:
            nonlocal count
            removed = []
            for _, line in self:
                entry = orjson.loads(line)
                if not is_wanted(entry):
                    yield line
                    continue
                count += 1
                removed.append(entry)
                if len(removed) == REMOVED_AT_ONCE:
                    removing(removed)
                    removed = []
            removing(removed)

        self.replace(rest())
        return count

    def close(self) -> None:
        """Release the lock, and remove the file if it has no line."""
        if os.fstat(self._fd).st_size == 0 and self._is_there():
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _remove_incomplete_line(self) -> None:
        size = end = os.fstat(self._fd).st_size
        newline = -1
        while end and newline < 0:
            start = max(0, end - _BUFFER_BYTES)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            end = start + newline + 1
        if end < size:
            os.ftruncate(self._fd, end)


def _copy(fd: int, target: Path) -> None:
    """Copy an open file to a new one. Raises OSError, and then leaves none."""
    with open(target, "xb", opener=output_opener) as copy:
        try:
            os.fchmod(copy.fileno(), stat.S_IMODE(os.fstat(fd).st_mode))
            with open(fd, "rb", closefd=False) as source:
                source.seek(0)
                shutil.copyfileobj(source, copy, _BUFFER_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def _write(path: Path, fd: int, lines: Iterable[bytes]) -> None:
    try:
        with open(fd, "wb", _BUFFER_BYTES, closefd=False) as stream:
            stream.writelines(lines)
        os.fsync(fd)
    except OSError as error:
        # A retry does not help.
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
            raise StorageFull(path, os.strerror(error.errno)) from None
        raise


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, OUTPUT_FILE_MODE)
    except OSError as error:
        raise ResultFileError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise ResultFileError(f"{path}: cannot be written: it is not a regular file")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ResultFileError(f"{path}: another run is writing it: wait for it, or name another file") from None
    return fd
