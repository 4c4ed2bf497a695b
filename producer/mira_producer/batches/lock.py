"""One keeper for each queue and directory: a lock on a file, which ends with its process however that ends."""

from __future__ import annotations

import fcntl
import hashlib
import os

from mira_producer.batches.spool import Spool
from mira_queue.runtime.private_files import make_private_dir


def queue_name(redis_url: str) -> str:
    """A queue's name in names of files."""
    return hashlib.sha256(redis_url.encode()).hexdigest()[:16]


class KeeperLock:
    """`redis_url` names the queue. `inherited` is what whoever started us has taken, and left open for us."""

    def __init__(self, spool: Spool, redis_url: str, inherited: int = -1) -> None:
        #: The queue that whoever has it keeps the batches of.
        self.queue_name = queue_name(redis_url)
        self._path = spool.root / f"keeper-{self.queue_name}.lock"
        #: The open file; -1: we do not have it.
        self.fd = inherited

    def take(self) -> bool:
        """False: somebody else has it."""
        if self.fd >= 0:
            return True
        make_private_dir(self._path.parent)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)
            return False
        self.fd = fd
        return True

    def release(self) -> None:
        os.close(self.fd)
        self.fd = -1
