"""Users of an embedded server, as processes that can be asked and killed; and servers that misbehave on request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.ledger.embedded import (
    EmbeddedServer,
    find_binary,
    locks,
)
from mira_queue.ledger.embedded.files import locate_files
from mira_queue.ledger.embedded.process import read_pid

USER = """
import sys
from pathlib import Path
from mira_queue.ledger.embedded import EmbeddedServer

server = EmbeddedServer(Path(sys.argv[1]))
with server:
    print(server.running_pid(), flush=True)
    for line in sys.stdin:
        if line.strip() == "ensure":
            server.ensure_running()
            print(server.running_pid(), flush=True)
"""


class User:
    """A process that uses the server until it is told to finish."""

    def __init__(self, state_dir: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(state_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "MIRA_API_KEY": "sk-mira-secret-of-the-user"},
        )

    def server_pid(self) -> int:
        """Waits for what the user says next: the pid of its server."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        return int(line)

    def ask_to_ensure(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("ensure\n")
        self.process.stdin.flush()

    def finish(self) -> None:
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def end_server(state_dir: Path) -> None:
    """A failed test must not leave its server behind."""
    lock = locate_files(state_dir).server_lock
    if lock.exists() and locks.is_held(lock) and (pid := read_pid(lock)):
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)


def is_stopped(state_dir: Path) -> bool:
    return not locks.is_held(locate_files(state_dir).server_lock) and EmbeddedServer(state_dir).running_pid() is None


@contextmanager
def connect(url: str) -> Iterator[redis.Redis]:
    path = url.removeprefix("redis+socket://")
    with redis.Redis(unix_socket_path=path, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
        yield client


def kill_server(server: EmbeddedServer) -> int:
    pid = server.running_pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid


def wrapped_server(directory: Path, shell: str) -> Callable[[], Path]:
    """The real server, started by a line of shell that ends in `exec … "$SERVER" "$@"`."""
    script = directory / "wrapped-server"
    script.write_text(f"#!/bin/sh\nSERVER={find_binary()}\n{shell}\n")
    script.chmod(0o700)
    return lambda: script
