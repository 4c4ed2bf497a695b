"""Responses on the wire: complete ones, streams, and every way in which a network can break one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Mapping

from aiohttp import web

from mira_queue.simulator.completion import DONE, QUEUE_FULL, Completion
from mira_queue.simulator.replies import JSON, Reply

# How a call ended, for the counts: an HTTP status, "answered", or the name of a broken response.
Outcome = int | str
Response = tuple[Outcome, web.StreamResponse]

CHUNK_BYTES = 64 * 1024
EVENT_STREAM = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
PING = b": ping\n\n"
PING_S = 15.0
INTERIM = (
    b"HTTP/1.1 100 Continue\r\n\r\n"
    b"HTTP/1.1 102 Processing\r\n\r\n"
    b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class _Untyped(web.Response):
    """Response without a content type. aiohttp would add one."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self.headers.popall("Content-Type", None)


def send(reply: Reply, outcome: Outcome | None = None) -> Response:
    """Send a reply. Its outcome is its status, if no other is given."""
    kind = web.Response if reply.content_type else _Untyped
    return outcome or reply.status, kind(
        body=reply.body, status=reply.status, headers=reply.headers, content_type=reply.content_type
    )


async def stream(request: web.BaseRequest, completion: Completion, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send a completion as server-sent events."""
    response = web.StreamResponse(headers={**EVENT_STREAM, **headers})
    await response.prepare(request)
    for event in completion.to_events():
        await response.write(event)
    await response.write_eof(DONE)
    return response


async def mira_stream(
    request: web.BaseRequest, completion: Completion, headers: Mapping[str, str], delay_s: float
) -> web.StreamResponse:
    """Send a completion as Mira's real backend does: comments while the model works, and no role chunk."""
    response = web.StreamResponse(headers={**EVENT_STREAM, **headers})
    await response.prepare(request)
    await response.write(PING)
    while delay_s > 0:
        await asyncio.sleep(min(delay_s, PING_S))
        delay_s -= PING_S
        await response.write(PING)
    for event in completion.to_events(with_role=False):
        await response.write(event)
    await response.write_eof(DONE)
    return response


async def queue_full(request: web.BaseRequest, headers: Mapping[str, str]) -> web.StreamResponse:
    """Send an error inside a 200, without [DONE], as Mira's real backend does when a streamed call finds it busy."""
    response = web.StreamResponse(headers={**EVENT_STREAM, **headers})
    await response.prepare(request)
    await response.write_eof(PING + QUEUE_FULL)
    return response


async def early_hints(request: web.BaseRequest, late_s: float) -> None:
    """Send interim responses. The final one follows after `late_s`."""
    if request.transport is not None:
        request.transport.write(INTERIM)
    await asyncio.sleep(late_s)


def reset(transport: asyncio.BaseTransport | None) -> web.StreamResponse:
    """Reset a connection: the client reads ECONNRESET."""
    if isinstance(transport, asyncio.Transport) and not transport.is_closing():
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        transport.abort()
    return web.Response()


def close(request: web.BaseRequest) -> web.StreamResponse:
    """Close the connection without a response."""
    if request.transport is not None:
        request.transport.close()
    return web.Response()


async def truncate(request: web.BaseRequest, completion: Completion, *, stream: bool) -> web.StreamResponse:
    """Send half of the answer, then close the connection."""
    if stream:
        events = list(completion.to_events())
        response = web.StreamResponse(headers=EVENT_STREAM)
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
    """Send a JSON object of about `size` bytes, in chunks, so that no header shows its length."""
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    await response.write(b'{"id": "')
    for start in range(0, size, CHUNK_BYTES):
        await response.write(b"x" * min(CHUNK_BYTES, size - start))
    await response.write(b'"}')
    await response.write_eof()
    return response


async def drip(request: web.BaseRequest, interval_s: float) -> web.StreamResponse:
    """Send one byte of the body every `interval_s`, until the client disconnects."""
    response = web.StreamResponse(headers={"Content-Type": JSON})
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(interval_s)


async def hang() -> web.StreamResponse:
    """Send nothing until the client disconnects."""
    await asyncio.Event().wait()
    return web.Response()
