"""Child processes of the driver. Each has its own session, can be restarted, and exits with the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


class Child:
    """One role, such as "worker 2". Its process is killed and replaced."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = list(command)
        self._env = {**clean_environment(), **env}
        self._folder = folder
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.began_s = 0.0
        self.is_stopped = False
        #: Deadline for a process that received SIGTERM, in monotonic seconds.
        self.must_end_by_s: float | None = None

    def start(self) -> None:
        self._close()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,  # There is no .env of the user in this directory.
                env=self._env,
                stdin=subprocess.PIPE,  # The child exits when this pipe closes.
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.began_s = time.monotonic()
        self.is_stopped = False
        self.must_end_by_s = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal. Popen first checks that the process is alive, so a reused PID is never hit."""
        assert self._process is not None
        self._process.send_signal(number)
        self.is_stopped = {signal.SIGSTOP: True, signal.SIGCONT: False}.get(number, self.is_stopped)

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def end(self, patience_s: float) -> None:
        """Send SIGTERM, then SIGKILL after `patience_s`."""
        if self._process is None:
            return
        if self.is_alive:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def clean_environment() -> dict[str, str]:
    """Return the environment without MIRA_ and CELERY_ variables and without proxies, which cannot reach loopback."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIRA_", "CELERY_")) and not name.lower().endswith("_proxy")
    }
    return ours | {"PYTHONPATH": os.fspath(REPOSITORY)}


def end_with_driver() -> None:
    """Make this child exit as on SIGTERM when the driver exits, even if the driver is killed."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-pipe", daemon=True).start()


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
