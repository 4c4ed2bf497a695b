"""Servers on ports of loopback, and a wire to them that can be cut: for tests of what a network does to a queue."""

from __future__ import annotations

import socket
import struct
import subprocess
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.ledger.embedded import find_binary
from tests.support.waiting import wait_until

HOST = "127.0.0.1"
_CHUNK = 65536
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PortServer:
    """A real server with its own data directory. As a context manager it is killed at the end."""

    def __init__(self, folder: Path, binary: str | Path | None = None, **options: str) -> None:
        """Prepare a server with further `options` of its configuration. `binary` is the embedded server's if None."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._binary = binary or find_binary()
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        # Without retries: a test wants to see what the server says now.
        self.client = redis.Redis(HOST, self.port, socket_timeout=5, retry=Retry(NoBackoff(), 0))

    def start(self) -> Self:
        options = {
            "port": str(self.port),
            "bind": HOST,
            "save": "",
            "appendonly": "yes",
            "repl-diskless-sync-delay": "0",
            **self._options,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen([self._binary, *words], cwd=self._folder, stdout=log, stderr=log)
        wait_until("the server answers", self._answers)
        return self

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def follow(self, master: PortServer) -> None:
        """Become its replica; returns when everything is here."""
        self.client.replicaof(HOST, str(master.port))
        wait_until("the replica follows", lambda: self.client.info("replication")["master_link_status"] == "up")

    def has_all_of(self, master: PortServer) -> bool:
        """Nothing that the master has acknowledged is still under way."""
        offset = master.client.info("replication")["master_repl_offset"]
        return bool(self.client.info("replication")["slave_repl_offset"] >= offset)

    def promote(self) -> None:
        self.client.replicaof("NO", "ONE")

    def _answers(self) -> bool:
        with suppress(redis.ConnectionError, redis.TimeoutError):
            return bool(self.client.ping())
        return False

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.kill()


class Wire:
    """A TCP proxy. What it does to connections is what networks do.

    `reset`: all are reset, and new ones too, until `mend`.
    `blackhole`: nothing arrives any more, and nobody is told. `mend` helps new connections only: the old ones stay
    open, silent for ever, as after a firewall has forgotten them.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._state = "whole"
        self._lock = threading.Lock()
        self._open: list[_Connection] = []
        self._listener = socket.create_server((HOST, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name="wire", daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def reset(self) -> None:
        with self._lock:
            self._state = "reset"
            for connection in self._open:
                connection.reset()
            self._open.clear()

    def blackhole(self) -> None:
        with self._lock:
            self._state = "blackhole"
            for connection in self._open:
                connection.silent = True

    def mend(self, target_port: int | None = None) -> None:
        """New connections pass again, to another server if told so."""
        with self._lock:
            self._target_port = target_port or self._target_port
            self._state = "whole"

    def close(self) -> None:
        self.reset()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with self._lock:
                    if (connection := self._connect(near)) is not None:
                        self._open.append(connection)

    def _connect(self, near: socket.socket) -> _Connection | None:
        if self._state == "reset":
            _reset(near)
            return None
        try:
            far = socket.create_connection((HOST, self._target_port))
        except OSError:
            _reset(near)
            return None
        return _Connection(near, far, silent=self._state == "blackhole")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Connection:
    """Both directions of one connection, each pumped by a thread."""

    def __init__(self, near: socket.socket, far: socket.socket, silent: bool) -> None:
        self.silent = silent
        self._ends = (near, far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._pump, args=(source, sink), name="wire", daemon=True).start()

    def reset(self) -> None:
        for end in self._ends:
            _reset(end)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if not self.silent:
                    sink.sendall(data)
        # An end that is closed while nothing passes is not heard of at the other end.
        if not self.silent:
            self.reset()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        # Wakes the thread that reads from it; close alone would not.
        end.shutdown(socket.SHUT_RD)
    end.close()


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server((HOST, 0)) as probe:
        return int(probe.getsockname()[1])
