"""Output and error files: a complete JSON line for each answered line; the files are the record of a run."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from mira_producer.jsonl.errors import InputError, StorageFull
from mira_queue.contract.outcome import Completion, Failure, Outcome

# Before a job's id, in the lines that it became.
LINE_ID = "batch_req_"
# Of an error that is not its line's last word: the line runs again when its run goes on.
RUNS_AGAIN = "runs_again"
_BLOCK = 1024 * 1024


def output_line(job_id: str, custom_id: str, outcome: Outcome, *, runs_again: bool = False) -> bytes:
    """A line in the batch format's words; failures carry the server's answer and our code side by side."""
    if isinstance(outcome, Completion):
        response: dict[str, Any] | None = {
            "status_code": 200,
            "request_id": outcome.body.get("id"),
            "body": outcome.body,
        }
        error: dict[str, Any] | None = None
    else:
        response = _error_response(outcome)
        error = {"code": outcome.code, "message": outcome.detail, **({RUNS_AGAIN: True} if runs_again else {})}
    line = {"id": f"{LINE_ID}{job_id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def job_id_of(line: dict[str, Any]) -> str:
    """The job that a line came of; a line that got its twin's answer has a number behind that, which is no job's."""
    return str(line.get("id", "")).removeprefix(LINE_ID)


def _error_response(failure: Failure) -> dict[str, Any] | None:
    if failure.status is None:
        return None
    body = failure.body if failure.body is not None else {"detail": failure.detail}
    return {"status_code": failure.status, "request_id": None, "body": body}


class LineFile:
    """A file that holds complete lines at every moment, written by one run at a time.

    Opening it takes a lock and removes a half line that a killed run may have left. Raises InputError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Closed by a run that has left it without a line, the file may be gone between our opening and our lock: what
        # were written then would be in no file.
        while os.fstat(fd := _open_locked(path)).st_nlink == 0:
            os.close(fd)
        self._fd = fd
        self._drop_half_line()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """(number, content) of the lines that stand in it."""
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line

    def append(self, lines: list[bytes]) -> None:
        """Write the lines and wait until the disk has them. A full disk leaves no half line behind."""
        size = os.fstat(self._fd).st_size
        try:
            _write_all(self._fd, b"".join(lines))
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise _translated(self.path, error) from None

    def replace(self, lines: Iterable[bytes]) -> None:
        """Put these lines in place of those that stand in it, all at once; nobody else gets the lock in between."""
        path = self.path.resolve()
        beside = path.with_name(f".{path.name}.new")
        fd = _open_locked(beside)
        try:
            os.ftruncate(fd, 0)
            os.fchmod(fd, stat.S_IMODE(os.fstat(self._fd).st_mode))
            for block in _blocks(lines):
                _write_all(fd, block)
            os.fsync(fd)
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            os.close(fd)
            raise _translated(self.path, error) from None
        os.close(self._fd)
        self._fd = fd

    def close(self) -> None:
        """A file that has got no line is removed: no errors, no error file."""
        if os.fstat(self._fd).st_size == 0:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def _drop_half_line(self) -> None:
        end = os.fstat(self._fd).st_size
        position = end
        while position > 0:
            start = max(0, position - _BLOCK)
            block = os.pread(self._fd, position - start, start)
            newline = block.rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            os.ftruncate(self._fd, position)


def _write_all(fd: int, content: bytes) -> None:
    data = memoryview(content)
    while data:
        data = data[os.write(fd, data) :]


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines in larger pieces."""
    block: list[bytes] = []
    size = 0
    for line in lines:
        block.append(line)
        size += len(line)
        if size >= _BLOCK:
            yield b"".join(block)
            block, size = [], 0
    yield b"".join(block)


def _translated(path: Path, error: OSError) -> Exception:
    """Return the error to raise: a retry does not help if the storage is full."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return StorageFull(path, os.strerror(error.errno))
    return error


def _open_locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {os.strerror(error.errno or 0)}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InputError(f"{path}: cannot be written: it is no regular file, and could not be read again")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise InputError(f"{path}: another run is writing it: wait for that, or name another file") from None
    return fd
