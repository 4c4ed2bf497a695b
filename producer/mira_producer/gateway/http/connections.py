"""Bounds of a connection: its headers, the time until they are complete, and the number of connections."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Protocol

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mira_producer.gateway.http.body_buffer import BodyBuffer
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.request_ids import HEADER, new_request_id

MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 100
# A client that opens a connection, or begins a request, has this long until its headers are complete.
HEADERS_WITHIN_S = 15.0
# A client that sends nothing of its body for this long is cut off.
BODY_IDLE_S = 60.0
MAX_CONNECTIONS = 4096
# Of a body that the application has not received yet. uvicorn's 64 KiB are one read: it would stop and start reading
# all the time.
MAX_BUFFERED_BYTES = 512 * 1024
# If a connection is closed while the client still sends, the client may lose the response. What arrives for this long
# after the response is read and dropped: the rest of a body, or of a request that was rejected by its headers.
LINGER_S = 30.0
LINGER_REJECTED_S = 5.0


class Watcher(Protocol):
    """An exchange that has to know what happens to its connection."""

    def connection_used(self) -> None: ...

    def connection_lost(self) -> None: ...


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which sets no such bounds, with our errors instead of its texts."""

    _deadline: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True
    _is_rejected = False
    _body_s = 0.0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.watchers: set[Watcher] = set()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MAX_CONNECTIONS:
            busy = f"{MAX_CONNECTIONS:,} connections are open"
            self._reject(ApiError(503, busy, code="too_many_connections", should_retry=True, retry_after_s=1))
            return
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        for watcher in list(self.watchers):
            watcher.connection_lost()

    def data_received(self, data: bytes) -> None:
        if self._is_rejected:
            return
        super().data_received(data)
        # One header that never ends stays inside the parser.
        if self._in_headers and not self._is_rejected:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES:
                self._reject(_too_large())
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self._deadline is None and self.timeout_keep_alive_task is None:
            # Line breaks between two requests have ended the wait for the next one.
            self._await_headers()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        for watcher in list(self.watchers):
            watcher.connection_used()
        self.scope["state"]["connection"] = self
        self._in_headers = True
        if not self._is_rejected:
            self._await_headers()

    def on_headers_complete(self) -> None:
        if self._is_rejected:
            return
        self._in_headers, self._header_bytes = False, 0
        self._stop_waiting()
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADER_BYTES or len(self.headers) > MAX_HEADERS:
            self._reject(_too_large())
            return
        super().on_headers_complete()
        self._body_s = self.loop.time()
        self._deadline = self.loop.call_later(BODY_IDLE_S, self._check_body)

    def on_body(self, body: bytes) -> None:
        if self._is_rejected or self.cycle.response_complete:
            return
        if not self.cycle.body:
            self.cycle.body = BodyBuffer()  # type: ignore[assignment]
        self._body_s = self.loop.time()
        self.cycle.body += body
        if len(self.cycle.body) > MAX_BUFFERED_BYTES:
            self.flow.pause_reading()
        self.cycle.message_event.set()

    def on_message_complete(self) -> None:
        if not self._is_rejected:
            self._stop_waiting()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body:
            self._close_after(LINGER_S)

    def send_400_response(self, msg: str) -> None:
        self._reject(ApiError(400, msg, code="invalid_http"))

    def _check_body(self) -> None:
        """Close the connection if the client has sent nothing of its body for too long.

        While the application has not received what arrived before, nothing is read: that is not the client's fault.
        """
        silent_s = 0.0 if self.flow.read_paused else self.loop.time() - self._body_s
        if silent_s >= BODY_IDLE_S:
            self.transport.abort()
        else:
            self._deadline = self.loop.call_later(BODY_IDLE_S - silent_s, self._check_body)

    def _await_headers(self) -> None:
        self._close_after(HEADERS_WITHIN_S)

    def _close_after(self, seconds: float) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _reject(self, error: ApiError) -> None:
        """Write an error without the application, and close the connection."""
        self._is_rejected = True
        body = orjson.dumps(error.to_object())
        headers: dict[str, Any] = {
            HEADER.decode(): new_request_id(),
            "content-type": "application/json",
            "content-length": len(body),
            "connection": "close",
            **error.headers,
        }
        lines = [
            f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
            *(f"{k}: {v}" for k, v in headers.items()),
        ]
        self.transport.write("\r\n".join([*lines, "", ""]).encode() + body)
        self.transport.write_eof()
        self._close_after(LINGER_REJECTED_S)


def _too_large() -> ApiError:
    limit = (
        f"the request line and its headers are over the limit of {MAX_HEADER_BYTES:,} bytes or {MAX_HEADERS} headers"
    )
    return ApiError(431, limit, code="headers_too_large")
