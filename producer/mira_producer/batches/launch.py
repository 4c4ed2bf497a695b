"""Start the supervisor process if none is running: it belongs to no terminal, and ends when no batch is open."""

from __future__ import annotations

import os
import subprocess
import threading

from mira_producer.processes import PYTHON, environment_of, output_of_child
from mira_queue.contract.settings import Settings
from mira_queue.runtime.accounts_file import path_of
from mira_queue.runtime.private_files import make_private_dir


def ensure_supervisor(settings: Settings, lock_fd: int = -1) -> None:
    """Start a supervisor process. A second one for the same queue and directory ends immediately.

    It takes over the lock that is open as `lock_fd`, so that a command that runs meanwhile does not start another.
    """
    state_dir = settings.state_dir.expanduser()
    make_private_dir(state_dir)
    # The supervisor reads the file again for each batch: another working directory must not make it another file.
    file = path_of(settings)
    accounts = {"accounts_file": str(file)} if settings.accounts_file or file.exists() else {}
    with output_of_child(state_dir / "supervisor.log") as log:
        process = subprocess.Popen(
            [*PYTHON, "-m", "mira_producer.batches", str(lock_fd)],
            pass_fds=[lock_fd] if lock_fd >= 0 else [],
            env={**os.environ, **environment_of(settings, **accounts)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    # If this process outlives it, it must not stay a zombie.
    threading.Thread(target=process.wait, name="supervisor-waiter", daemon=True).start()
