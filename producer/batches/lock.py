"""One keeper for each queue and directory: a lock on a file, which ends with its process however that ends."""

from __future__ import annotations

import fcntl
import hashlib
import os

from producer.batches.spool import Spool


class KeeperLock:
    """`redis_url` names the queue."""

    def __init__(self, spool: Spool, redis_url: str) -> None:
        name = hashlib.sha256(redis_url.encode()).hexdigest()[:16]
        self._path = spool.root / f"keeper-{name}.lock"
        self._fd = -1

    def take(self) -> bool:
        """False: somebody else has it."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def release(self) -> None:
        os.close(self._fd)

    def is_taken(self) -> bool:
        if not self.take():
            return True
        self.release()
        return False
