"""File locks of the embedded server: flock(2), which the kernel releases with the last process that holds it."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mira_queue.ledger.embedded.errors import ServerSilentError
from mira_queue.runtime.private_files import PRIVATE_FILE_MODE

POLL_S = 0.02


def open_lock(path: Path) -> int:
    """Return a new open file description. Forks share it, programs that we start do not inherit it."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)


def try_lock(fd: int, how: int) -> bool:
    """Lock without waiting; `how` is fcntl.LOCK_SH or LOCK_EX. Return False if another process holds the lock."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_held(path: Path) -> bool:
    """Return True if any process holds the lock exclusively."""
    fd = open_lock(path)
    try:
        return not try_lock(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


@contextmanager
def exclusive(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock exclusively. Raises ServerSilentError if its holder does not release it in time."""
    deadline = time.monotonic() + timeout_s
    fd = open_lock(path)
    try:
        # Polled, because flock(2) has no timeout.
        while not try_lock(fd, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise ServerSilentError(
                    f"Another process has been starting or stopping the embedded server for {timeout_s:g} s ({path})"
                )
            time.sleep(POLL_S)
        yield
    finally:
        os.close(fd)
