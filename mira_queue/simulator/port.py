"""The port: it is served, except in an outage. No other process gets it meanwhile."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mira_queue.simulator import wire
from mira_queue.simulator.config import OutageKind
from mira_queue.simulator.state import State

BACKLOG = 2048


class Port:
    """One address that `server` serves. At most one outage at a time; a new one replaces the current one."""

    def __init__(self, state: State, server: web.Server, host: str, port: int) -> None:
        self._state = state
        self._server = server
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._family = family
        self._socket = self._bind(address)
        self._address = self._socket.getsockname()
        self._listening: asyncio.Server | None = None
        self._protected: set[RequestHandler] = set()
        self._end: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        host, port = self._address[0], self._address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._server, sock=self._socket, backlog=BACKLOG)

    def close(self) -> None:
        """Close the port and all connections."""
        if self._listening is not None:
            self._listening.close()
        self._socket.close()
        self._protected.clear()
        self._reset_connections()

    def protect(self, connection: RequestHandler) -> None:
        """Protect a connection that was used for /sim/ from outages."""
        if connection not in self._protected:
            self._protected = {known for known in self._server.connections if known in self._protected} | {connection}

    def start_outage(self, kind: OutageKind, seconds: float) -> None:
        """Start an outage. `drop` and `refuse` reset the open connections, except those that were used for /sim/."""
        if self._end is not None:
            self._end.cancel()
        self._state.outage = kind
        if kind == "refuse" and self._listening is not None:
            # Refuse connections until `open()`. The port stays bound, so that no other process gets it.
            self._listening.close()
            self._listening = None
            self._socket = self._bind(self._address)
        if kind in ("drop", "refuse"):
            self._reset_connections()
        self._end = asyncio.get_running_loop().create_task(self._end_after(seconds, kind))

    async def _end_after(self, seconds: float, kind: OutageKind) -> None:
        if kind != "refuse":
            await self.open()  # the outage that this one replaces may have closed it
        await asyncio.sleep(seconds)
        self._state.outage = None
        await self.open()

    def _reset_connections(self) -> None:
        for connection in self._server.connections:
            if connection not in self._protected:
                wire.reset(connection.transport)

    def _bind(self, address: tuple[object, ...]) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound
