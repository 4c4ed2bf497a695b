"""Processes of the driver: each in a session of its own, killed by its pid, started again, gone when the driver is."""

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
    """One place in the cast, such as "worker 2": whoever plays it is killed and replaced."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self._command = list(command)
        self._env = {**clean_environment(), **env}
        self._folder = folder
        self.log = folder / f"{name.replace(' ', '-')}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.began_s = 0.0
        self.is_stopped = False
        #: Set while it is to end by itself: monotonic seconds by which it must have.
        self.must_end_by_s: float | None = None

    def start(self) -> None:
        self._close()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,  # No .env of the user's is read there.
                env=self._env,
                stdin=subprocess.PIPE,  # Its end tells the child that we are gone.
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
        """Send it. Popen asks first whether the process has ended, so that no stranger with its pid is hit."""
        assert self._process is not None
        self._process.send_signal(number)
        self.is_stopped = {signal.SIGSTOP: True, signal.SIGCONT: False}.get(number, self.is_stopped)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()

    def end(self, patience_s: float) -> None:
        """SIGTERM, then SIGKILL after `patience_s`."""
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
    """Ours, without what is set for real work, or for a proxy that does not know our loopback."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MIRA_", "CELERY_")) and not name.lower().endswith("_proxy")
    }
    return ours | {"PYTHONPATH": os.fspath(REPOSITORY)}


def end_with_driver() -> None:
    """For a child: end as on SIGTERM when the driver is gone, even by SIGKILL."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent-pipe", daemon=True).start()


def module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", name, *arguments]
