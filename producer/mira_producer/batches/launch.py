"""Starts the keeper where none is: it belongs to no terminal, and ends by itself when no batch is open."""

from __future__ import annotations

import os
import subprocess
import threading

from mira_producer.processes import PYTHON, environment_of
from mira_queue.contract.settings import Settings
from mira_queue.runtime.private_files import PRIVATE_FILE_MODE, make_private_dir


def ensure_keeper(settings: Settings, lock_fd: int = -1) -> None:
    """Start a keeper; of two on one queue and one directory, the second ends at once.

    It takes over the lock that is open as `lock_fd`: nobody who asks while it is being started starts another.
    """
    state_dir = settings.state_dir.expanduser()
    make_private_dir(state_dir)
    log = os.open(state_dir / "keeper.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE_MODE)
    try:
        process = subprocess.Popen(
            [*PYTHON, "-m", "mira_producer.batches", str(lock_fd)],
            pass_fds=[lock_fd] if lock_fd >= 0 else [],
            env={**os.environ, **environment_of(settings)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    finally:
        os.close(log)
    # It may outlive us; where we outlive it, it must not stay a zombie for as long as we live.
    threading.Thread(target=process.wait, name="keeper-waiter", daemon=True).start()
