"""One request and its response on a pooled connection of urllib3: in step, in time, and bounded.

A response belongs to its call only while both sides agree where each response ends. http.client takes an interim
response (102, 103) for the final one, and silently drops bytes that follow a response: the next call on that connection
would read a response that is not its own. Here, a connection is reused only if its exchange ended cleanly:

- Interim responses are skipped until the final one.
- Nothing may be readable before a request is sent, or after its response was read.
- The whole request was sent before its response began.
- The headers leave no doubt where the response ends.

One deadline bounds the exchange, however slowly the server sends.
"""

from __future__ import annotations

import http.client
import io
import ssl
import threading
import time
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import urllib3

# All interim responses and the headers of the final one. Servers send a few KiB.
MAX_HEAD_BYTES = 256 * 1024
# A request is sent in pieces of this size. Between two of them, a response that comes too early is noticed.
_PIECE_BYTES = 16 * 1024
_BUFFER_BYTES = 64 * 1024


class OutOfStep(urllib3.exceptions.HTTPError):
    """The server does not follow the order of request and response."""


class Exchange:
    """State of one call, from its connection to the end of its response."""

    __slots__ = ("_ends_s", "has_extra", "has_sent", "is_reused", "is_whole")

    def __init__(self, total_s: float) -> None:
        self._ends_s = time.monotonic() + total_s
        # A byte of the request has been sent; the request has been sent completely.
        self.has_sent = self.is_whole = False
        # The connection has carried an earlier call; it held bytes after this call's response.
        self.is_reused = self.has_extra = False

    def remaining_s(self) -> float:
        """Return the time until the deadline, which is more than zero. Raises TimeoutError."""
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the deadline of the exchange has passed")
        return left_s

    def end_within(self, seconds: float) -> None:
        """Move the deadline closer."""
        self._ends_s = min(self._ends_s, time.monotonic() + seconds)

    def doubt(self, status: int) -> str:
        """Return why the response may belong to another request, or an empty string."""
        if self.has_extra and self.is_reused:
            return "the server sent more than one response: it is uncertain which one belongs to this request"
        if not self.is_whole and status < 300:
            return "the server responded before it had the whole request"
        return ""


class Exchanges:
    """The exchanges of one client, at most one for each thread.

    `keeps_connections` becomes False when the server has sent bytes that no request asked for. Bytes that arrive a
    moment later look like the response of the next request. From then on, each call gets a connection of its own.
    """

    def __init__(self) -> None:
        self.keeps_connections = True
        self._of_thread = threading.local()

    def begin(self, total_s: float) -> Exchange:
        self._of_thread.exchange = exchange = Exchange(total_s)
        return exchange

    @property
    def current(self) -> Exchange:
        found: Exchange = self._of_thread.exchange
        return found


def checked(connection: type, exchanges: Exchanges) -> type:
    """Return the class of urllib3's connections for one client, with the checks of this module."""
    return type("Connection", (_CheckedConnection, connection), {"exchanges": exchanges})


class _CheckedConnection:
    """A connection that sends each request in one piece, and is in step with its server or closed.

    Headers and body together take half the system calls, and one packet for most requests.
    """

    exchanges: Exchanges
    sock: Any
    timeout: Any
    close: Callable[[], None]
    _pieces: list[bytes] | None = None
    _is_used = False
    # What was read of a response that began before its request was sent.
    early = b""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.response_class = partial(_Response, self)

    @property
    def is_connected(self) -> bool:
        """Return False if the pool must not reuse this connection."""
        if self.sock is None or not self.exchanges.keeps_connections:
            return False
        arrived = received(self.sock)
        if arrived:
            self.exchanges.keeps_connections = False
        return arrived is None

    def connect(self) -> None:
        self._is_used = False
        self.early = b""
        self.timeout = min(self.timeout, self.exchanges.current.remaining_s())
        super().connect()  # type: ignore[misc]

    def request(self, *args: Any, **options: Any) -> None:
        self._pieces = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            whole = b"".join(self._pieces)
        finally:
            self._pieces = None
        self._send_request(whole)

    def send(self, data: bytes) -> None:
        if self._pieces is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._pieces.append(data)

    def _send_request(self, whole: bytes) -> None:
        exchange = self.exchanges.current
        if self.sock is None:
            self.connect()
        exchange.is_reused, self._is_used = self._is_used, True
        early = received(self.sock)
        if early:
            self.exchanges.keeps_connections = False
            raise OutOfStep("the server responded before the request was sent")
        if early is not None:
            raise ConnectionResetError("the connection was closed before the request was sent")
        exchange.has_sent = True
        for start in range(0, len(whole), _PIECE_BYTES):
            if start and (early := received(self.sock)) is not None:
                # Rejected early: the rest of the request is not wanted, and the response says why.
                self.early = early
                return
            self.sock.settimeout(exchange.remaining_s())
            self.send(whole[start : start + _PIECE_BYTES])
        exchange.is_whole = True

    def response_ended(self, rest: bytes | None) -> None:
        """Close the connection unless its exchange ended cleanly. `rest` came after the response: see `received`."""
        exchange = self.exchanges.current
        if rest:
            exchange.has_extra = True
            self.exchanges.keeps_connections = False
        # The response of a proxy to CONNECT ends before the request is sent.
        if rest is not None or (exchange.has_sent and not exchange.is_whole):
            self.close()


class _Response(http.client.HTTPResponse):
    """The final response to a request, read by the deadline of its exchange."""

    _had_last_chunk = False

    def __init__(self, connection: _CheckedConnection, sock: Any, *args: Any, **options: Any) -> None:
        self._connection = connection
        self._source = _Source(sock, connection.exchanges.current, connection.early)
        super().__init__(self._source, *args, **options)  # type: ignore[arg-type]

    def begin(self) -> None:
        super().begin()
        self._source.has_head = True
        if not self._has_certain_end():
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not 100 <= status < 200:
                return version, status, reason
            if status == HTTPStatus.SWITCHING_PROTOCOLS:
                raise OutOfStep("the server switched to another protocol (101)")
            http.client.parse_headers(self.fp)

    def _has_certain_end(self) -> bool:
        lengths = self.headers.get_all("content-length", [])
        codings = self.headers.get_all("transfer-encoding", [])
        if self.status in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            return not codings and all(length.strip() == "0" for length in lengths)
        if codings:
            return self.chunked is True and len(codings) == 1 and not lengths
        return len(lengths) == 1 and lengths[0].strip().isdecimal()

    def _read_and_discard_trailer(self) -> None:
        super()._read_and_discard_trailer()  # type: ignore[misc]
        self._had_last_chunk = True

    def _close_conn(self) -> None:
        # Not every response is read to its end. The connection of one that was not is closed by urllib3.
        has_ended = self._had_last_chunk or self.length == 0
        rest = self._source.rest(self.fp) if has_ended else None
        super()._close_conn()  # type: ignore[misc]
        if has_ended:
            self._connection.response_ended(rest)


class _Source(io.RawIOBase):
    """Bytes of a connection, each read bounded by the deadline. In the place of a socket for http.client."""

    def __init__(self, sock: Any, exchange: Exchange, early: bytes) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._exchange = exchange
        self._early = early
        self._head_bytes = 0
        self.has_head = False
        self._is_over = False

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _BUFFER_BYTES)

    def rest(self, buffered: io.BufferedReader) -> bytes | None:
        """Return what has arrived beyond the response, as `received` does. Nothing can be read afterwards."""
        self._is_over = True
        return buffered.peek(1) or received(self._sock)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._is_over:
            return None
        if self._early:
            count = len(self._early)
            buffer[:count], self._early = self._early, b""
            return count
        self._sock.settimeout(self._exchange.remaining_s())
        count = self._raw.readinto(buffer)
        if not self.has_head:
            self._head_bytes += count
            if self._head_bytes > MAX_HEAD_BYTES:
                raise OutOfStep(f"the headers of the response are larger than {MAX_HEAD_BYTES:,} bytes")
        return int(count)

    def close(self) -> None:
        self._raw.close()
        super().close()


def received(sock: Any) -> bytes | None:
    """Return a byte that has arrived, or b"" if the connection has ended, or None if it is quiet. Does not wait.

    The byte is taken out: TLS cannot peek. A socket that is readable need not hold any byte of ours: TLS 1.3 sends
    session tickets.
    """
    timeout_s = sock.gettimeout()
    sock.settimeout(0)
    try:
        found: bytes = sock.recv(1)
        return found
    except (BlockingIOError, ssl.SSLWantReadError):
        return None
    except OSError:
        return b""
    finally:
        sock.settimeout(timeout_s)
