"""Recognized retries: a retry whose first response was lost gets the object of the first request.

SDKs send no idempotency key, but they count their retries. Requests with the same API key, path, and body are equal. A
request is recorded before its handler can create anything, and forgotten when its client has the response. A request
that says that it is a retry gets the identity of an equal request whose response was lost.

A response counts as received if the client uses the connection again, or leaves it open for RECEIVED_AFTER_S. If the
connection breaks sooner, nothing shows whether the client has received what was in the buffers of the network: the loss
is doubtful. A retry is then recognized for some seconds only, as long as SDKs wait. A second retry is recognized for
twice as long, because no gateway may have been running at the first one, and so on. This is wrong in one case: within
this time, a client sends the same request a second time, on purpose, its first attempt never reaches a gateway, and its
retry gets the first object. The other choice would be wrong whenever a network loses a response: the work would run
twice, and be billed twice. A proxy that has received a response counts as its client: what breaks behind the proxy is
not noticed.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.errors import ApiError, conflict, invalid, is_retried
from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.body_digest import BodyDigest
from mira_producer.gateway.retries.identity import is_withdrawn, new_identity
from mira_producer.gateway.retries.open_requests import OpenRequests
from mira_queue.contract import names
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.webhook import digest_of_identity
from mira_queue.ledger.http_requests import Loss, OpenRequest
from mira_queue.ledger.ledger import Ledger

RETRY_COUNT, IDEMPOTENCY_KEY = "x-stainless-retry-count", "idempotency-key"
MAX_KEY_CHARS = 255
# SDKs wait for at least 375 ms before a retry. A retry that comes sooner after a complete response repeats another
# request.
MIN_BACKOFF_S = 0.3


async def run(context: Context) -> None:
    await context.open_requests.run()


class RecognizedRetries:
    """Middleware. It gives every POST request its identity as soon as the handler has read the body."""

    def __init__(self, app: ASGIApp, ledger: Ledger, requests: OpenRequests) -> None:
        self._app = app
        self._ledger = ledger
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        key = Headers(scope=scope).get(IDEMPOTENCY_KEY)
        exchange = (
            _Counted(scope, receive, send, self._requests)
            if key is None
            else _Named(scope, receive, send, self._ledger, key)
        )
        try:
            await self._app(scope, exchange.receive, exchange.send)
        finally:
            exchange.close()


class _Exchange:
    """One request and its response. The endpoint puts the API key into the scope before the handler reads the body."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._state: dict[str, Any] = scope["state"]
        self._headers = Headers(scope=scope)
        self._digest = BodyDigest(scope["path"], self._headers.get("content-type", ""))
        self._receive = receive
        self._send = send
        self._is_read = False
        self._is_broken = False
        #: The status of a complete response, or 0.
        self._status = self._started = 0
        self._should_retry = False

    async def receive(self) -> Message:
        message = await self._receive()
        caller = self._state.get("caller")
        if message["type"] == "http.request" and caller is not None and not self._is_read:
            await self._digest.add(message.get("body", b""))
            if not message.get("more_body", False):
                self._is_read = True
                self._state["identity"] = await self._identify(caller, await self._digest.hexdigest())
                if self._is_broken:
                    # Nothing is created for a client that has gone. Its retry creates it.
                    return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._started = message["status"]
            asked = Headers(raw=message["headers"]).get("x-should-retry")
            self._should_retry = asked == "true" or (asked is None and is_retried(self._started))
            await self._begin_response()
            await self._send(message)
            return
        await self._send(message)
        if not message.get("more_body", False) and not self._is_broken:
            self._status = self._started
            self._end_response()

    async def _identify(self, caller: ApiKey, digest: str) -> str:
        raise NotImplementedError

    async def _begin_response(self) -> None:
        """Act on the status, before the client gets it."""

    def _end_response(self) -> None:
        """Act on a complete response."""

    def close(self) -> None:
        """Act on the end of the handler."""


class _Counted(_Exchange):
    """A request of an SDK, which counts its retries. It watches its connection."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, requests: OpenRequests) -> None:
        super().__init__(scope, receive, send)
        self._requests = requests
        self._request: OpenRequest | None = None
        self._written_s = 0.0
        self._watchers: set[_Counted] = scope["state"]["connection"].watchers
        self._watchers.add(self)

    async def _identify(self, caller: ApiKey, digest: str) -> str:
        count = self._headers.get(RETRY_COUNT, "0")
        self._request = await self._requests.begin(
            names.recent_requests_key(caller.id, digest),
            # A larger number is recognized for no longer.
            retry_count=int(count[:3]) if count.isdecimal() else 0,
            is_over=lambda: self._is_broken,
        )
        return self._request.identity

    def connection_used(self) -> None:
        """Another request begins on the connection."""
        if self._written_s:
            self._finish(is_received=True)

    def connection_lost(self) -> None:
        self._is_broken = True
        if self._written_s:
            self._finish(is_received=False)
        elif self._request is not None:
            self._requests.lose(Loss(self._request, None))

    def _end_response(self) -> None:
        if self._request is None:
            return
        if self._status < 400:
            self._written_s = time.monotonic()
            self._requests.await_receipt(lambda: self._finish(is_received=True))
        else:
            # The client repeats some errors, with the same identity. After the others, it has to change its request.
            self._finish(is_received=not self._should_retry)

    def close(self) -> None:
        if not self._written_s:
            self._finish(is_received=is_withdrawn(self._state))

    def _finish(self, *, is_received: bool) -> None:
        """Record how the request has ended. Only the first call counts."""
        self._watchers.discard(self)
        request, self._request = self._request, None
        if request is None:
            return
        if is_received:
            self._requests.end(request)
        elif self._written_s:
            wait_s = self._written_s + MIN_BACKOFF_S - time.monotonic()
            asyncio.get_running_loop().call_later(wait_s, self._requests.lose, Loss(request, names.DOUBTFUL_WITHIN))
        else:
            self._requests.lose(Loss(request))


class _Named(_Exchange):
    """A request whose client has named it with an Idempotency-Key."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, ledger: Ledger, key: str) -> None:
        super().__init__(scope, receive, send)
        self._ledger = ledger
        self._key = key
        self._claimed: tuple[str, str, str] | None = None

    async def _identify(self, caller: ApiKey, digest: str) -> str:
        if not 1 <= len(self._key) <= MAX_KEY_CHARS:
            raise invalid("Idempotency-Key", f"expected 1 to {MAX_KEY_CHARS} characters, got {len(self._key)}")
        place = names.http_idempotency_key(caller.project, self._key)
        fresh = new_identity()
        identity = await in_thread(self._ledger.claim_http_key, place, fresh, digest)
        if identity is None:
            reason = "it belongs to a request with another path or body: choose another key"
            raise ApiError(422, f"Idempotency-Key: {reason}", code="idempotency_key_reused", param="Idempotency-Key")
        if identity != fresh and await in_thread(self._ledger.deleted, digest_of_identity(identity)) is not None:
            # Not again: it would run, and be billed, again.
            raise conflict("Idempotency-Key: its object was deleted: choose another key", "object_deleted")
        self._claimed = (place, identity, digest)
        return identity

    async def _begin_response(self) -> None:
        if self._claimed and 400 <= self._started < 500 and not self._should_retry:
            # It has created nothing: the corrected request may have the same key.
            await in_thread(self._ledger.free_http_key, *self._claimed)
