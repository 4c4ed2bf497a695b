"""Real worker processes for tests: start them, read their logs, and kill them. They exit with the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.waiting import wait_until

# The format of a real key. Tests search for it where it must not be.
API_KEY = "sk-mira-" + "c0ffee" * 6 + "beef"
STOP_TIMEOUT_S = 60.0

# Settings of a worker with short intervals.
QUICK: dict[str, Any] = {
    "api_key": API_KEY,
    "backoff_base": 0.05,
    "backoff_cap": 0.2,
    "lease": 1,
    "rescue_interval": 0.5,
    "max_attempts": 3,
    "concurrency": 8,
    "max_response_bytes": 1_000_000,
    "log_format": "json",
}
OWN_COMMAND = (sys.executable, "-m", "mira_worker", "--parent-pipe")
CELERY_COMMAND = (sys.executable, "-m", "celery", "-A", "mira_worker.app", "worker")


class WorkerProcess:
    """A worker. `settings` are fields of Settings: WorkerProcess.start(folder, redis_url=..., api_base=..., lease=2).

    As a context manager it is killed at the end, if it is still there.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    def start(cls, folder: Path, command: Iterable[str] = OWN_COMMAND, wait: bool = True, **settings: Any) -> Self:
        """Start a worker. `folder` is its working directory and gets its log. Wait until it is ready, if `wait`."""
        log = folder / f"worker-{len(list(folder.glob('worker-*.log')))}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=environment(**{**QUICK, **settings}),
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
            )
        worker = cls(process, log)
        if wait:
            worker.wait_ready()
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        def ready() -> bool:
            if self._process.poll() is not None:
                raise AssertionError(f"the worker ended with {self._process.returncode}:\n{self.log()}")
            return bool(self.events("ready"))

        wait_until("a worker is ready", ready)

    def log(self) -> str:
        """All that it has written to standard output and standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """Its log lines of that event that have these fields."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if line["event"] == name and fields.items() <= line.items()]

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def hang_up(self) -> None:
        """Close its standard input, as the end of a parent does."""
        assert self._process.stdin is not None
        self._process.stdin.close()

    def kill(self) -> None:
        """Send SIGKILL and wait for the exit."""
        self._process.kill()
        self.wait()

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        self.terminate()
        return self.wait()

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Its exit code. Its standard input stays open until then: it is what tells it that the tests are alive."""
        code = self._process.wait(timeout_s)
        assert self._process.stdin is not None
        self._process.stdin.close()
        return code

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()


def environment(**settings: Any) -> dict[str, str]:
    """This process's environment with these settings as MIRA_ variables, and no others of them. None: not set."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MIRA_")}
    return plain | {f"MIRA_{name.upper()}": str(value) for name, value in settings.items() if value is not None}
