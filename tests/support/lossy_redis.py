"""A wire to the Redis server that loses an answer when told to: the client cannot know whether the server acted."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit


class LossyRedis:
    """Stands between a client and the server of `url`; `LossyRedis(url).url` is the way through it."""

    def __init__(self, url: str) -> None:
        self._parts = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        if self._parts.scheme == "redis+socket":
            self.url = f"redis://127.0.0.1:{port}"
        else:
            userinfo = self._parts.netloc.rpartition("@")[0]
            at = f"{userinfo}@" if userinfo else ""
            self.url = urlunsplit(self._parts._replace(netloc=f"{at}127.0.0.1:{port}"))
        self._armed = False
        self._sockets: list[socket.socket] = []
        self.lost = 0

    def lose_next_answer(self) -> None:
        """Of the next script: the server runs it, and the connection is cut before its answer arrives."""
        self._armed = True

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in (self._listener, *self._sockets):
            _cut(one)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._sockets += [client, server]
            cutting = threading.Event()
            threading.Thread(target=self._commands, args=(client, server, cutting), daemon=True).start()
            threading.Thread(target=self._answers, args=(server, client, cutting), daemon=True).start()

    def _connect(self) -> socket.socket:
        if self._parts.scheme == "redis+socket":
            server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            server.connect(self._parts.path)
            return server
        return socket.create_connection((self._parts.hostname, self._parts.port or 6379))

    def _commands(self, client: socket.socket, server: socket.socket, cutting: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(1 << 16):
                if self._armed and b"EVALSHA" in data:
                    self._armed = False
                    cutting.set()
                server.sendall(data)
        _cut(server)

    def _answers(self, server: socket.socket, client: socket.socket, cutting: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(1 << 16):
                if cutting.is_set():
                    self.lost += 1
                    break
                client.sendall(data)
        _cut(client)
        _cut(server)


def _cut(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
