"""A server that says exactly the bytes a test wants, and remembers what it was sent."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import orjson

COMPLETION = orjson.dumps({"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]})


def response(status: int, body: bytes = b"", *headers: str) -> bytes:
    """A whole answer of HTTP/1.1."""
    lines = [f"HTTP/1.1 {status} Said So", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@dataclass(frozen=True)
class Request:
    """What came, and the place in the order of all requests, from 0."""

    line: str
    headers: dict[str, str]
    body: bytes
    number: int


@dataclass
class RawServer:
    """`answer` gets the request and the connection, and sends what it likes; the connection stays open if it does.

    with RawServer(lambda request, connection: connection.sendall(response(200))) as server:
        ... server.url, server.requests, server.connections ...
    """

    answer: Callable[[Request, socket.socket], None]
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0  # 0: a free one

    def __enter__(self) -> Self:
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/v1"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError, ValueError):
            if self.tls is not None:
                connection = self.tls.wrap_socket(connection, server_side=True)
            with connection.makefile("rb") as reader:
                while (request := self._read(reader)) is not None:
                    self.answer(request, connection)
        connection.close()

    def _read(self, reader: object) -> Request | None:
        line = reader.readline().decode().strip()  # type: ignore[attr-defined]
        if not line:
            return None
        headers: dict[str, str] = {}
        while header := reader.readline().decode().strip():  # type: ignore[attr-defined]
            name, _, value = header.partition(":")
            headers[name.strip().lower()] = value.strip()
        body = reader.read(int(headers.get("content-length", 0)))  # type: ignore[attr-defined]
        with self._lock:
            request = Request(line, headers, body, len(self.requests))
            self.requests.append(request)
        return request


def always(answer: bytes) -> Callable[[Request, socket.socket], None]:
    return lambda request, connection: connection.sendall(answer)


def closing(answer: bytes) -> Callable[[Request, socket.socket], None]:
    """Says it, and hangs up."""

    def say(request: Request, connection: socket.socket) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_RDWR)

    return say
