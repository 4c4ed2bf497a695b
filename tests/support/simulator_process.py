"""The simulator as a process for tests, on a free port. Tests read and change it over /sim/."""

from __future__ import annotations

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests

CONTROL_TIMEOUT_S = 30
STOP_TIMEOUT_S = 60


class SimulatorProcess:
    """A running simulator. A context manager stops it at the end. If the tests are killed, it exits automatically.

    with SimulatorProcess.start(rate=60, rate_window_s=6, faults={"503": 0.1}) as simulator:
        ... simulator.url ...                      # http://127.0.0.1:PORT/v1, the base for a client
        simulator.configure(rate=None)
        assert simulator.stats()["early"] == 0
    """

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process = process
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment does not know our loopback
        self.url = url
        self.port = urlsplit(url).port

    @classmethod
    def start(cls, *arguments: str, **config: Any) -> Self:
        """`config`: fields of SimulatorConfig; `arguments`: options of the command, as "--limits", "mira"."""
        command = [sys.executable, "-m", "mira_queue.simulator", "--parent-pipe", "--config", json.dumps(config)]
        process = subprocess.Popen([*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        word, _, url = process.stdout.readline().strip().partition(" ")
        if word != "ready":
            raise RuntimeError(f"the simulator did not start: exit code {process.wait(STOP_TIMEOUT_S)}")
        return cls(process, url)

    @property
    def pid(self) -> int:
        return self._process.pid

    def stats(self) -> dict[str, Any]:
        """calls, answered, by_status, by_refusal, by_fault, in_flight, early, crossed, client_gone, accounts ..."""
        return self._control("GET", "stats")

    def requests(self) -> dict[str, Any]:
        """{"by_body": {sha256: {"calls", "answered"}}, "by_content": {last user message: the same, "refused"}}"""
        return self._control("GET", "requests")

    def arrivals(self) -> dict[str, Any]:
        """{last user message: {"came_s": [seconds since the start], "accounts": [names, as in stats]}}"""
        return self._control("GET", "arrivals")

    def recent(self) -> list[str]:
        """Last user messages of the requests that are under way, or were within the last second."""
        return list(self._control("GET", "recent")["contents"])

    def calls(self) -> list[dict[str, Any]]:
        """Every call, with log_calls: {"came_s", "word": "admitted", a limit's name or an outage's, "left_s"}."""
        return list(self._control("GET", "calls")["calls"])

    def config(self) -> dict[str, Any]:
        return self._control("GET", "config")

    def configure(self, **changes: Any) -> dict[str, Any]:
        """Change some fields of SimulatorConfig; what was used and counted stays."""
        return self._control("POST", "config", changes)

    def reset(self) -> None:
        """Forget counts, rate logs, balances, promises and the steps of directives; the configuration stays."""
        self._control("POST", "reset", {})

    def outage(self, seconds: float, kind: str = "503") -> None:
        """Start an outage: `500`, `503`, `drop` (every call is reset), or `refuse` (no new connections)."""
        self._control("POST", "outage", {"seconds": seconds, "kind": kind})

    def stop(self) -> int:
        """End it, and return its exit code."""
        self._session.close()
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _control(self, method: str, name: str, body: Any = None) -> dict[str, Any]:
        response = self._session.request(
            method, f"http://127.0.0.1:{self.port}/sim/{name}", json=body, timeout=CONTROL_TIMEOUT_S
        )
        if not response.ok:
            raise ValueError(f"/sim/{name}: {response.status_code}: {response.text}")
        return dict(response.json())
