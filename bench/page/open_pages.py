"""Pages that stay open: their streams, and what the gateway and the server spend on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import redis

FIRST_EVENT_S = 30.0


@dataclass(slots=True)
class OpenPages:
    """Streams that are read as a browser reads them. `events` counts what has arrived."""

    events: int = 0
    ready: int = 0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


@asynccontextmanager
async def open_pages(base: str, cookie: str, paths: Sequence[str]) -> AsyncIterator[OpenPages]:
    """Open the stream of each path, wait until each has sent its first event, and close them at the end."""
    pages = OpenPages()
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(headers={"cookie": cookie}, timeout=timeout) as session:
        pages.tasks = [asyncio.create_task(_read(session, base + path, pages)) for path in paths]
        try:
            async with asyncio.timeout(FIRST_EVENT_S):
                while pages.ready < len(paths):
                    await asyncio.sleep(0.05)
            yield pages
            # A stream that has ended would use nothing.
            for task in pages.tasks:
                assert not task.done(), task
        finally:
            for task in pages.tasks:
                task.cancel()
            await asyncio.gather(*pages.tasks, return_exceptions=True)


async def call_together(base: str, cookie: str, path: str, count: int) -> None:
    """Request a view many times at the same time."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers={"cookie": cookie}, connector=connector) as session:

        async def call() -> None:
            async with session.get(base + path) as response:
                assert response.status == 200, response.status
                await response.read()

        await asyncio.gather(*(call() for _ in range(count)))


async def _read(session: aiohttp.ClientSession, url: str, pages: OpenPages) -> None:
    is_first = True
    async with session.get(url) as response:
        assert response.status == 200, f"{url}: {response.status}"
        async for line in response.content:
            if line.startswith(b"data:"):
                pages.events += 1
                pages.ready += is_first
                is_first = False


@dataclass(frozen=True, slots=True)
class Held:
    """Resources of processes: memory of the gateway in MiB, its open files, and the clients of the server."""

    mib: float
    files: int
    clients: int

    @classmethod
    def by(cls, gateway_pid: int, client: redis.Redis) -> Held:
        info: Any = client.info("clients")
        resident = int(Path(f"/proc/{gateway_pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024
        files = len(list(Path(f"/proc/{gateway_pid}/fd").iterdir()))
        return cls(resident, files, int(info["connected_clients"]))


def server_cpu_s(client: redis.Redis) -> float:
    """Return the processor time of the server."""
    info: Any = client.info("cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])
