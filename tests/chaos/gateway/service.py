"""The processes of one gateway: itself on a fixed port, its workers, and the supervisor of its batches."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

from mira_queue.contract.settings import Settings
from tests.chaos.child import Child, module
from tests.chaos.gateway.options import GatewayOptions
from tests.support.batch_steps import started
from tests.support.child_processes import children

# Time beyond the grace period after which an exit on SIGTERM counts as late: workers have 5 s more, on a busy machine.
EXIT_MARGIN_S = 20.0
MAX_RESTART_S = 1.5
READY_TIMEOUT_S = 1.0


class Service:
    """Keeps a gateway running. `tend` is called often: it restarts the gateway, and resumes stopped processes."""

    def __init__(self, options: GatewayOptions, settings: Settings, env: Mapping[str, str], folder: Path) -> None:
        self._options = options
        self._settings = settings
        self.port = _free_port()
        command = module("tests.chaos.gateway.serve", "serve", "--port", str(self.port))
        self.gateway = Child("gateway", [*command, "--workers", str(options.workers)], env, folder)
        self._start_at_s: float | None = 0.0
        self._good_codes: tuple[int, ...] = ()
        #: Stopped processes by their file descriptors (a PID could be reused), and when they continue.
        self._stopped: dict[int, float] = {}
        #: Exits that the driver did not cause, and exits after SIGTERM that failed.
        self.unexpected_exits: list[str] = []
        self.late_exits = 0

    @property
    def is_whole(self) -> bool:
        """Return True if the gateway runs, and is neither stopped nor about to exit."""
        return self.gateway.is_alive and not self._stopped and self.gateway.must_end_by_s is None

    @property
    def is_ready(self) -> bool:
        """Return True if the gateway accepts requests and reaches the server."""
        with suppress(OSError), urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=READY_TIMEOUT_S):
            return self.is_whole
        return False

    def workers(self) -> list[int]:
        """Return the PIDs of the gateway's workers."""
        return children(self.gateway.pid, "mira_worker") if self.gateway.is_alive else []

    def supervisors(self) -> list[int]:
        return started(self._settings)

    def kill(self, pick: float) -> None:
        self.gateway.kill()
        self._start_at_s = time.monotonic() + pick * MAX_RESTART_S

    def term(self) -> None:
        # Before it is ready, it has nothing to drain, and SIGTERM may end it as it ends any process.
        self._good_codes = (0,) if self.is_ready else (0, -signal.SIGTERM)
        self.gateway.signal(signal.SIGTERM)
        self.gateway.must_end_by_s = time.monotonic() + self._options.grace_s + EXIT_MARGIN_S

    def stop(self, pid: int, for_s: float) -> None:
        """Stop a process, which continues after `for_s`."""
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(pid)
            signal.pidfd_send_signal(fd, signal.SIGSTOP)
            self._stopped[fd] = time.monotonic() + for_s

    def has_due(self) -> bool:
        """Return True if a stopped process is due to continue."""
        return any(time.monotonic() >= due_s for due_s in self._stopped.values())

    def resume(self, *, all_of_them: bool = False) -> None:
        """Let the stopped processes continue that are due."""
        for fd, due_s in list(self._stopped.items()):
            if all_of_them or time.monotonic() >= due_s:
                del self._stopped[fd]
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(fd, signal.SIGCONT)
                os.close(fd)

    def tend(self) -> None:
        now_s = time.monotonic()
        if self.gateway.is_alive:
            if self.gateway.must_end_by_s is not None and now_s > self.gateway.must_end_by_s:
                self.late_exits += 1
                self.kill(0.0)
            return
        if self._start_at_s is None:
            code = self.gateway.exit_code
            if self.gateway.must_end_by_s is None or code not in self._good_codes:
                why = "unexpected" if self.gateway.must_end_by_s is None else "after SIGTERM"
                self.unexpected_exits.append(f"exit code {code}, {why}")
            self._start_at_s = now_s
        if now_s >= self._start_at_s:
            self._start_at_s = None
            self.gateway.start()

    def end(self) -> None:
        """Stop everything. The gateway stops its workers."""
        self.resume(all_of_them=True)
        self.gateway.end(self._options.grace_s + EXIT_MARGIN_S)
        for pid in self.supervisors():
            kill(pid)


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
