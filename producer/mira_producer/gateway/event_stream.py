"""Server-sent events to a client, with comments that keep the connection open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.responses import StreamingResponse

from mira_producer.gateway.waiting_response import KEEP_ALIVE_S

_COMMENT = b": keep-alive\n\n"
# Nginx would collect the events, and send them together at the end.
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def event_stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Return a response with these events."""
    return StreamingResponse(_kept_alive(events), headers=_HEADERS, media_type="text/event-stream")


def named_event(event: Mapping[str, Any]) -> bytes:
    """Return an event of OpenAI's responses, which has its type as its name."""
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), orjson.dumps(event))


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    following: asyncio.Future[bytes] | None = None
    try:
        while True:
            following = asyncio.ensure_future(_next(events))
            while not (await asyncio.wait({following}, timeout=KEEP_ALIVE_S))[0]:
                yield _COMMENT
            event = following.result()
            if not event:
                return
            yield event
    finally:
        if following is not None:
            following.cancel()


async def _next(events: AsyncIterator[bytes]) -> bytes:
    return await anext(events, b"")
