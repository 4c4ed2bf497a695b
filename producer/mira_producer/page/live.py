"""Live updates: server-sent events, with one reader per topic however many pages show it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from html import escape
from threading import Event

import orjson
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from structlog.typing import FilteringBoundLogger

from mira_producer.gateway.http.errors import ApiError, translated
from mira_queue.contract.errors import MiraQueueError

INTERVAL_S = 1.0
# Without a change, a comment follows after this. It also finds out if the user is still signed in.
HEARTBEAT_S = 15.0
MAX_STREAMS = 500
# Of one API key: one user must not take all streams.
MAX_STREAMS_PER_KEY = 20
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
        self._streams: Counter[str] = Counter()

    def is_stopping(self) -> bool:
        """Return True if the gateway stops: work in the background ends, too."""
        return self._stopping.is_set()

    async def stream(
        self, key: Hashable, read: Read, is_signed_in: Callable[[], Awaitable[bool]], api_key: str
    ) -> Response:
        """Return a stream of fragments: first all of them, and then those that change. Raises ApiError.

        `api_key` is the id of the user's key. Raises what `read` raises for a wrong request (400).
        """
        if key not in self._topics:
            await _check(read)
        if self._streams.total() >= MAX_STREAMS or self._streams[api_key] >= MAX_STREAMS_PER_KEY:
            raise ApiError(503, "too many pages are open", code="too_many_streams", retry_after_s=10)
        self._streams[api_key] += 1
        return _LiveStream(self._events(key, read, is_signed_in), lambda: self._release(api_key))

    def _release(self, api_key: str) -> None:
        self._streams[api_key] -= 1
        if not self._streams[api_key]:
            del self._streams[api_key]

    async def _events(
        self, key: Hashable, read: Read, is_signed_in: Callable[[], Awaitable[bool]]
    ) -> AsyncIterator[bytes]:
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
            found = {PROBLEM_ID: escape(_text_of(error))}
        newer = self.version + 1
        changed = {name: html for name, html in found.items() if self._fragments.get(name, (0, None))[1] != html}
        if changed:
            self._fragments.update({name: (newer, html) for name, html in changed.items()})
            async with self._changed:
                self.version = newer
                self._changed.notify_all()


class _LiveStream(StreamingResponse):
    """A stream that calls `release` at its end, even if no event was sent."""

    def __init__(self, events: AsyncIterator[bytes], release: Callable[[], None]) -> None:
        super().__init__(events, 200, _HEADERS, "text/event-stream")
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._release()


async def _check(read: Read) -> None:
    """Raise the error of a wrong request. Any other problem may pass: the stream reports it."""
    try:
        await read()
    except (MiraQueueError, ApiError) as error:
        found = error if isinstance(error, ApiError) else translated(error)
        if found is not None and found.status == 400:
            raise found from None


def _text_of(error: MiraQueueError | ApiError) -> str:
    found = error if isinstance(error, ApiError) else translated(error)
    return UNAVAILABLE if found is None or found.status == 503 else found.message


def _event(fragments: Mapping[str, str]) -> bytes:
    data = orjson.dumps({"now_ms": round(time.time() * 1000), "html": fragments})
    return b"data: %b\n\n" % data
