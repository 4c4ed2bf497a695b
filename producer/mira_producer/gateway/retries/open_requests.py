"""Requests of this gateway whose clients may not have their responses yet, as the ledger has to know them."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect

from mira_producer.gateway.http.threads import in_thread
from mira_producer.gateway.retries.identity import new_identity
from mira_queue.contract import names
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.http_requests import Loss, OpenRequest
from mira_queue.ledger.ledger import Ledger

RENEW_EVERY_S = names.GATEWAY_LEASE.total_seconds() / 3
FORGET_EVERY_S = 0.5
# A response counts as received if its connection is still open after this.
RECEIVED_AFTER_S = 2.0
ASK_AGAIN_S = 0.05


class OpenRequests:
    """Recorder of one gateway. Its methods are called in the event loop."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._gateway = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._losses: list[Loss] = []
        self._received: list[OpenRequest] = []
        self._written: deque[tuple[float, Callable[[], None]]] = deque()
        self._recording = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Renew the gateway's lease, and forget requests, until the task is cancelled.

        Nothing has to be done at the end: what is left then is what a killed gateway leaves.
        """
        renew_s = 0.0
        while True:
            # If the server is down, creating objects fails as well, with a message.
            with suppress(QueueUnavailable):
                if time.monotonic() >= renew_s:
                    await in_thread(self._ledger.renew_gateway, self._gateway)
                    renew_s = time.monotonic() + RENEW_EVERY_S
                await self._forget_received()
                await self._record_losses()
            await asyncio.sleep(FORGET_EVERY_S)

    async def begin(self, place: str, *, retry_count: int, is_over: Callable[[], bool]) -> OpenRequest:
        """Record a request before it can create anything. A retry may get the identity of a request that was lost.

        A retry waits while the handler of the request that it repeats still runs. Raises ClientDisconnect if
        `is_over` returns True meanwhile.
        """
        identity = new_identity()
        if retry_count:
            await self._record_losses()
        # A gateway that was killed before this is known to be dead by then.
        has_time_until_s = time.monotonic() + names.GATEWAY_LEASE.total_seconds() + RENEW_EVERY_S
        while True:
            found = await in_thread(
                self._ledger.begin_http_request,
                place,
                identity,
                self._gateway,
                retry_count=retry_count,
                has_time=time.monotonic() < has_time_until_s,
            )
            if found is not None:
                return found
            await asyncio.sleep(ASK_AGAIN_S)
            if is_over():
                raise ClientDisconnect

    def lose(self, loss: Loss) -> None:
        """Record that the connection of a request broke."""
        self._losses.append(loss)
        task = asyncio.ensure_future(self._record_losses_if_possible())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def end(self, request: OpenRequest) -> None:
        """Forget a request soon: its client has the response."""
        self._received.append(request)

    def await_receipt(self, on_received: Callable[[], None]) -> None:
        """Call `on_received` after RECEIVED_AFTER_S."""
        self._written.append((time.monotonic() + RECEIVED_AFTER_S, on_received))

    async def _forget_received(self) -> None:
        now_s = time.monotonic()
        while self._written and self._written[0][0] <= now_s:
            self._written.popleft()[1]()
        received, self._received = self._received, []
        if received:
            try:
                await in_thread(self._ledger.end_http_requests, received)
            except QueueUnavailable:
                self._received += received
                raise

    async def _record_losses(self) -> None:
        # In order: that a handler has ended is recorded after that its connection broke.
        async with self._recording:
            losses, self._losses = self._losses, []
            if losses:
                try:
                    await in_thread(self._ledger.lose_http_requests, losses)
                except QueueUnavailable:
                    self._losses[:0] = losses
                    raise

    async def _record_losses_if_possible(self) -> None:
        with suppress(QueueUnavailable):
            await self._record_losses()
