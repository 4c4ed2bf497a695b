"""What the wire can do to a client: responses that are none, or that do not come alone."""

from __future__ import annotations

import asyncio
import socket
import struct

from aiohttp import web

from mira_queue.simulator.answers import JSON
from mira_queue.simulator.completion import Completion

SLICE_BYTES = 64 * 1024
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 102 Processing\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def reset(request: web.BaseRequest) -> web.StreamResponse:
    """The connection is reset: the client reads ECONNRESET."""
    cut(request.transport)
    return web.Response()


def cut(transport: asyncio.BaseTransport | None) -> None:
    """Reset a connection, whatever it is at."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()


def close(request: web.BaseRequest) -> web.StreamResponse:
    """The connection is closed without a word."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def truncate(request: web.BaseRequest, completion: Completion, *, stream: bool) -> web.StreamResponse:
    """Half of the answer, then the end of the connection."""
    if stream:
        events = list(completion.to_events())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        half = b"".join(events[: max(1, len(events) // 2)])
    else:
        body = completion.to_json()
        response = web.StreamResponse(headers={"Content-Type": JSON, "Content-Length": str(len(body))})
        half = body[: len(body) // 2]
    await response.prepare(request)
    await response.write(half)
    close(request)
    return response


async def huge(request: web.BaseRequest, size: int) -> web.StreamResponse:
    """A JSON object of about `size` bytes, in chunks, so that no header tells its length."""
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    await response.write(b'{"id": "')
    for start in range(0, size, SLICE_BYTES):
        await response.write(b"x" * min(SLICE_BYTES, size - start))
    await response.write(b'"}')
    await response.write_eof()
    return response


async def drip(request: web.BaseRequest, interval_s: float) -> web.StreamResponse:
    """A body of one byte now and then, until the client goes away."""
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(interval_s)


async def hang() -> web.StreamResponse:
    """Nothing, until the client goes away."""
    await asyncio.get_running_loop().create_future()
    raise AssertionError("unreachable: nobody sets this future")


async def early_hints(request: web.BaseRequest, late_s: float) -> None:
    """Send interim responses. The final one follows after `late_s`."""
    if request.transport is not None:
        request.transport.write(INTERIM)
    await asyncio.sleep(late_s)
