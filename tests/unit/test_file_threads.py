"""Threads that read whole files: they leave the other threads free, and their queue is bounded."""

from __future__ import annotations

import asyncio
import threading

import pytest
from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.threads import MAX_FILE_THREADS, MAX_WAITING, FileThreads, in_thread

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_long_work_leaves_threads_for_short_calls_and_waits_within_a_bound() -> None:
    threads, released = FileThreads(), threading.Event()
    calls = [asyncio.ensure_future(threads.run(released.wait)) for _ in range(MAX_FILE_THREADS + MAX_WAITING)]
    await asyncio.sleep(0)
    try:
        assert await in_thread(len, "short") == 5
        with pytest.raises(ApiError) as caught:
            await threads.run(len, "long")
        assert (caught.value.status, caught.value.code) == (503, "files_busy")
        assert "retry-after" in caught.value.headers
    finally:
        released.set()
    assert all(await asyncio.gather(*calls))
    assert await threads.run(len, "free") == 4
