"""A network between clients and a gateway that cuts connections: in a request, after it, or in a response."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Self

READ_BYTES = 65536
_RESET = struct.pack("ii", 1, 0)


class Where(Enum):
    REQUEST = "after some bytes of the request"
    WAIT = "after the request, some time later"
    RESPONSE = "after some bytes of the response"


@dataclass(frozen=True, slots=True)
class Cut:
    """Cut of a connection: after `after_bytes`, or `after_s`. With `resets`, both ends get an RST, not a FIN."""

    where: Where
    after_bytes: int = 0
    after_s: float = 0.0
    resets: bool = False


class RandomCuts:
    """Chooses cuts at random moments, and counts the planned ones. `share` is that of the requests that are cut."""

    # Bytes of a request or a response, after which it may be cut.
    MAX_BYTES = 900
    MAX_WAIT_S = 0.02

    def __init__(self, seed: int, share: float) -> None:
        self._dice = random.Random(seed)
        self._share = share
        self.planned: Counter[Where] = Counter()

    def choose(self) -> Cut | None:
        """Return whether a request is cut, and where. The proxy's thread calls it."""
        if self._dice.random() >= self._share:
            return None
        where = self._dice.choice(list(Where))
        self.planned[where] += 1
        resets = self._dice.random() < 0.5
        return Cut(where, self._dice.randrange(self.MAX_BYTES), self._dice.random() * self.MAX_WAIT_S, resets)


class CuttingProxy:
    """Listens on `port`. `choose` returns for each request whether its connection is cut, and where.

    While the target does not listen, connections are closed.
    """

    def __init__(self, target: int, choose: Callable[[], Cut | None]) -> None:
        self._target = target
        self._choose = choose
        self._loop = asyncio.new_event_loop()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.requests = self.cuts = 0
        self._thread = threading.Thread(target=self._run, name="cutting-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._connect, sock=self._listener))
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            gateway, to_gateway = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            to_client.close()
            return
        await _Connection(self, self._choose, to_client, to_gateway).run(client, gateway)


class _Connection:
    """One connection of a client, with its own to the gateway."""

    def __init__(
        self,
        proxy: CuttingProxy,
        choose: Callable[[], Cut | None],
        to_client: asyncio.StreamWriter,
        to_gateway: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._choose = choose
        self._to_client = to_client
        self._to_gateway = to_gateway
        self._cut: Cut | None = None
        self._count = 0
        self._in_response = True

    async def run(self, client: asyncio.StreamReader, gateway: asyncio.StreamReader) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self._requests(client), self._responses(gateway))
        self._close()

    async def _requests(self, client: asyncio.StreamReader) -> None:
        while data := await client.read(READ_BYTES):
            if self._in_response:
                self._in_response, self._cut, self._count = False, self._choose(), 0
                self._proxy.requests += 1
                if self._cut and self._cut.where is Where.WAIT:
                    asyncio.get_running_loop().call_later(self._cut.after_s, self._break)
            await self._forward(data, self._to_gateway, Where.REQUEST)
        self._close()

    async def _responses(self, gateway: asyncio.StreamReader) -> None:
        while data := await gateway.read(READ_BYTES):
            if not self._in_response:
                self._in_response, self._count = True, 0
            await self._forward(data, self._to_client, Where.RESPONSE)
        self._close()

    async def _forward(self, data: bytes, target: asyncio.StreamWriter, where: Where) -> None:
        cut = self._cut
        if cut and cut.where is where and self._count + len(data) > cut.after_bytes:
            target.write(data[: max(0, cut.after_bytes - self._count)])
            self._break()
            return
        self._count += len(data)
        target.write(data)
        await target.drain()

    def _break(self) -> None:
        if self._cut is None:
            return
        self._proxy.cuts += 1
        for writer in (self._to_client, self._to_gateway):
            if self._cut.resets:
                end: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                writer.transport.abort()
        self._cut = None
        self._close()

    def _close(self) -> None:
        for writer in (self._to_client, self._to_gateway):
            writer.close()
