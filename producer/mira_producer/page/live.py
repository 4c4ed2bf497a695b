"""Live updates: server-sent events, with one reader per topic however many pages show it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from threading import Event

import orjson
from starlette.responses import Response, StreamingResponse
from structlog.typing import FilteringBoundLogger

from mira_producer.gateway.http.errors import ApiError
from mira_queue.contract.errors import MiraQueueError

INTERVAL_S = 1.0
# Without a change, a comment follows after this. It also finds out if the user is still signed in.
HEARTBEAT_S = 15.0
MAX_STREAMS = 500
# The element that tells the user that the page is not up to date.
PROBLEM_ID = "live-problem"
UNAVAILABLE = "The queue's server is unavailable. The page updates as soon as it responds again."
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}

Read = Callable[[], Awaitable[Mapping[str, str]]]


class LiveTopics:
    """The streams of one gateway process. They end when `stopping` is set, so that they do not delay a stop."""

    def __init__(self, stopping: Event, log: FilteringBoundLogger) -> None:
        self._stopping = stopping
        self._log = log
        self._topics: dict[Hashable, _Topic] = {}
        self._streams = 0

    def is_stopping(self) -> bool:
        """Return True if the gateway stops: work in the background ends, too."""
        return self._stopping.is_set()

    def stream(self, key: Hashable, read: Read, is_signed_in: Callable[[], Awaitable[bool]]) -> Response:
        """Return a stream of fragments: first all of them, and then those that change. Raises ApiError."""
        if self._streams >= MAX_STREAMS:
            raise ApiError(503, f"{MAX_STREAMS} pages are open", code="too_many_streams", retry_after_s=10)
        return StreamingResponse(self._events(key, read, is_signed_in), 200, _HEADERS, "text/event-stream")

    async def _events(
        self, key: Hashable, read: Read, is_signed_in: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
        self._streams += 1
        topic = self._topics.get(key)
        if topic is None:
            topic = self._topics[key] = _Topic(read, self._stopping, self._log)
        topic.readers += 1
        try:
            seen, checked_s = 0, time.monotonic()
            while True:
                changed = await topic.after(seen)
                if topic.is_over:
                    return
                if time.monotonic() - checked_s >= HEARTBEAT_S:
                    checked_s = time.monotonic()
                    if not await is_signed_in():
                        return
                seen = topic.version
                yield _event(changed) if changed else b": keep-alive\n\n"
        finally:
            self._streams -= 1
            topic.readers -= 1
            if not topic.readers:
                topic.stop()
                if self._topics.get(key) is topic:
                    del self._topics[key]


@dataclass(slots=True)
class _Topic:
    """The fragments of one topic, each with the version in which it changed. Slow pages skip versions."""

    read: Read
    stopping: Event
    log: FilteringBoundLogger
    version: int = 0
    readers: int = 0
    is_over: bool = False
    _fragments: dict[str, tuple[int, str]] = field(default_factory=dict)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _task: asyncio.Task[None] = field(init=False)

    def __post_init__(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def after(self, version: int) -> dict[str, str]:
        """Return the fragments that are newer, as soon as there are some; nothing after HEARTBEAT_S."""
        async with self._changed:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._changed.wait_for(lambda: self.version > version or self.is_over)
            except TimeoutError:
                return {}
        return {name: html for name, (since, html) in self._fragments.items() if since > version}

    def stop(self) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                await self._step()
                await asyncio.sleep(INTERVAL_S)
        # A bug of a reader: pages connect again.
        except Exception:
            self.log.exception("live_topic_failed")
        finally:
            self.is_over = True
            async with self._changed:
                self._changed.notify_all()

    async def _step(self) -> None:
        try:
            found = {PROBLEM_ID: "", **await self.read()}
        except (MiraQueueError, ApiError) as error:
            found = {PROBLEM_ID: UNAVAILABLE if isinstance(error, MiraQueueError) else error.message}
        newer = self.version + 1
        changed = {name: html for name, html in found.items() if self._fragments.get(name, (0, None))[1] != html}
        if changed:
            self._fragments.update({name: (newer, html) for name, html in changed.items()})
            async with self._changed:
                self.version = newer
                self._changed.notify_all()


def _event(fragments: Mapping[str, str]) -> bytes:
    data = orjson.dumps({"now_ms": round(time.time() * 1000), "html": fragments})
    return b"data: %b\n\n" % data
