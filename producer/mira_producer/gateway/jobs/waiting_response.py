"""A response that waits for a job, for hours if necessary, and keeps the connection open meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mira_producer.gateway.http.errors import translated
from mira_queue.contract.errors import MiraQueueError

# Proxies close a connection that is silent for 60 s; some of them for 30 s.
KEEP_ALIVE_S = 15.0
# JSON may begin with white space.
KEEP_ALIVE = b" \n"


class WaitingResponse(Response):
    """The object that `result` returns, as soon as it does.

    Until KEEP_ALIVE_S has passed, an error has its own status. Then the status is sent, 200, with white space from time
    to time; a later error is an error object in the body. If the client disconnects, `on_disconnect` is called.
    """

    def __init__(
        self,
        result: Callable[[], Awaitable[Mapping[str, Any]]],
        on_disconnect: Callable[[], Awaitable[None]],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers=headers, media_type="application/json")
        del self.headers["content-length"]
        self._result = result
        self._on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        result = asyncio.ensure_future(self._result())
        gone = asyncio.ensure_future(disconnected(receive))
        try:
            is_started = False
            while not result.done():
                await asyncio.wait({result, gone}, timeout=KEEP_ALIVE_S, return_when=asyncio.FIRST_COMPLETED)
                if result.done():
                    break
                if gone.done():
                    await self._on_disconnect()
                    raise ClientDisconnect
                if not is_started:
                    is_started = True
                    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": KEEP_ALIVE, "more_body": True})
            await self._send(result, send, is_started)
        finally:
            result.cancel()
            gone.cancel()

    async def _send(self, result: asyncio.Future[Mapping[str, Any]], send: Send, is_started: bool) -> None:
        try:
            body = orjson.dumps(result.result())
        except MiraQueueError as error:
            found = translated(error)
            if found is None or not is_started:
                raise
            body = orjson.dumps(found.to_object())
        if not is_started:
            headers = [*self.raw_headers, (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


async def disconnected(receive: Receive) -> None:
    """Return when the client has closed the connection. The body was read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
