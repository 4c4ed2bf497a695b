"""Feed of published chunks to all streams of this process. One poll reads for all of them.

Polls cost less than a subscription for each stream, and no chunk is lost. A stream whose answer has not begun is polled
more rarely, so that a thousand of them may wait.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from mira_producer.gateway.http.threads import in_thread
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.chunks import ReadChunks

# No reader notices less than that.
MIN_POLL_S = 0.025
MAX_POLL_S = 0.25

Read = Callable[[Sequence[ReadChunks]], list[tuple[str, list[bytes]]]]


class Subscription:
    """Chunks of one job, from its newest attempt."""

    def __init__(self, job_id: str) -> None:
        self.read = ReadChunks(job_id)
        self.changed_s = self.read_s = time.monotonic()
        self._arrived: list[tuple[str, bytes]] = []
        self._event = asyncio.Event()

    async def take(self) -> list[tuple[str, bytes]]:
        """Wait for chunks, and return them, each with the epoch of its attempt."""
        await self._event.wait()
        return self.take_now()

    def take_now(self) -> list[tuple[str, bytes]]:
        self._event.clear()
        arrived, self._arrived = self._arrived, []
        return arrived

    def add(self, epoch: str, chunks: list[bytes]) -> None:
        self.read_s = time.monotonic()
        if not chunks:
            return
        count = self.read.count if epoch == self.read.epoch else 0
        self.read = replace(self.read, epoch=epoch, count=count + len(chunks))
        self.changed_s = self.read_s
        self._arrived += [(epoch, chunk) for chunk in chunks]
        self._event.set()

    def is_due(self, now_s: float) -> bool:
        pause_s = min(MAX_POLL_S, max(MIN_POLL_S, (now_s - self.changed_s) / 4))
        return now_s - self.read_s >= pause_s


class ChunkFeed:
    """All subscriptions of one gateway process, for use in its event loop."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._open: set[Subscription] = set()
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, job_id: str) -> Subscription:
        subscription = Subscription(job_id)
        self._open.add(subscription)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        self._open.discard(subscription)

    async def read_rest(self, subscription: Subscription) -> None:
        """Read what was published before the job finished."""
        await self._poll([subscription])

    async def _run(self) -> None:
        while self._open:
            now_s = time.monotonic()
            due = [each for each in self._open if each.is_due(now_s)]
            # The streams also wait for their outcomes, which get the error.
            with suppress(QueueUnavailable):
                await self._poll(due)
            await asyncio.sleep(MIN_POLL_S)

    async def _poll(self, subscriptions: list[Subscription]) -> None:
        if not subscriptions:
            return
        reads = [each.read for each in subscriptions]
        found = await in_thread(self._read, reads)
        for each, before, (epoch, chunks) in zip(subscriptions, reads, found, strict=True):
            # Another poll may have been quicker.
            if each.read is before:
                each.add(epoch, chunks)
