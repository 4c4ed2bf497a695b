"""Server-sent events to a client, with comments that keep the connection open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from mira_producer.gateway.jobs.waiting_response import KEEP_ALIVE_S, disconnected

_COMMENT = b": keep-alive\n\n"
# Nginx would collect the events, and send them together at the end.
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


def named_event(event: Mapping[str, Any]) -> bytes:
    """Return an event of OpenAI's responses, which has its type as its name."""
    return b"event: %b\ndata: %b\n\n" % (str(event["type"]).encode(), orjson.dumps(event))


def data_event(data: bytes) -> bytes:
    """Return an event of OpenAI's chat completions, which has no name."""
    return b"data: %b\n\n" % data


class EventStream(StreamingResponse):
    """A response with these events. They begin immediately, in a task that ends with the response.

    If the client disconnects, the events get a CancelledError where they wait.
    """

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(self._kept_alive(), headers=_HEADERS, media_type="text/event-stream")
        self._events = events
        self._following = asyncio.ensure_future(_next(events))

    async def begin(self, receive: Receive) -> None:
        """Wait for the first event, for at most KEEP_ALIVE_S. Raises what the events raise before it.

        Raises ClientDisconnect if the client disconnects before.
        """
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            first = {self._following, gone}
            await asyncio.wait(first, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
            if self._following.done():
                self._following.result()
            elif gone.done():
                raise ClientDisconnect
        except BaseException:
            self._following.cancel()
            raise
        finally:
            gone.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._following.cancel()

    async def _kept_alive(self) -> AsyncIterator[bytes]:
        while True:
            while not (await asyncio.wait({self._following}, timeout=KEEP_ALIVE_S))[0]:
                yield _COMMENT
            event = self._following.result()
            if not event:
                return
            self._following = asyncio.ensure_future(_next(self._events))
            yield event


async def _next(events: AsyncIterator[bytes]) -> bytes:
    """Return the next event, or nothing after the last one."""
    return await anext(events, b"")
