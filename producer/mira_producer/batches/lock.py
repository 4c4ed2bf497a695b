"""Locks on files: the kernel releases them when their process ends, however that happens."""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from mira_producer.batches.spool import Spool
from mira_queue.runtime.private_files import PRIVATE_FILE_MODE, make_private_dir


def queue_name(redis_url: str) -> str:
    """Return the name of a queue in names of files."""
    return hashlib.sha256(redis_url.encode()).hexdigest()[:16]


class SupervisorLock:
    """Held by the one supervisor process of a queue and a directory.

    `inherited` is the lock that the process that started us has taken, and left open for us.
    """

    def __init__(self, spool: Spool, redis_url: str, inherited: int = -1) -> None:
        #: The queue whose batches the holder runs.
        self.queue_name = queue_name(redis_url)
        self._path = spool.root / f"supervisor-{self.queue_name}.lock"
        #: The open file; -1 if this process does not hold the lock.
        self.fd = inherited

    def take(self) -> bool:
        """Return False if another process holds the lock."""
        if self.fd < 0:
            self.fd = try_lock(self._path)
        return self.fd >= 0

    def release(self) -> None:
        os.close(self.fd)
        self.fd = -1


def try_lock(path: Path, how: int = fcntl.LOCK_EX | fcntl.LOCK_NB) -> int:
    """Lock a file, and return it open; -1 if another process holds the lock. Without LOCK_NB, wait for it."""
    make_private_dir(path.parent)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    try:
        fcntl.flock(fd, how)
    except OSError:
        os.close(fd)
        return -1
    return fd


def wait_for_lock(path: Path) -> int:
    """Lock a file that other processes hold for moments only, and return it open."""
    return try_lock(path, fcntl.LOCK_EX)


def is_locked(path: Path) -> bool:
    """Return True if a process holds the lock of a file."""
    if not path.exists():
        return False
    fd = try_lock(path, fcntl.LOCK_SH | fcntl.LOCK_NB)
    if fd >= 0:
        os.close(fd)
    return fd < 0
