"""The port: served, or refusing connections for a while and then served again, without another process getting it."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mira_queue.simulator import broken

BACKLOG = 2048


class Listener:
    """One address that `server` answers at."""

    def __init__(self, server: web.Server, host: str, port: int) -> None:
        self._server = server
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._family = family
        self._socket = self._bind(address)
        self._address = self._socket.getsockname()
        self._listening: asyncio.Server | None = None
        self._spared: set[RequestHandler] = set()

    @property
    def url(self) -> str:
        host, port = self._address[0], self._address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._server, sock=self._socket, backlog=BACKLOG)

    def refuse(self) -> None:
        """Connections are refused until `open()`. The port stays bound, so that nobody else gets it."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            self._socket = self._bind(self._address)

    def cut_connections(self) -> None:
        """Reset every connection, but leave those that /sim/ was asked over."""
        for connection in self._server.connections:
            if connection not in self._spared:
                broken.cut(connection.transport)

    def spare(self, connection: RequestHandler) -> None:
        """/sim/ was asked over this connection: outages do not cut it."""
        if connection not in self._spared:
            self._spared = {known for known in self._server.connections if known in self._spared} | {connection}

    def close(self) -> None:
        """For good, with all connections."""
        if self._listening is not None:
            self._listening.close()
        self._socket.close()
        self._spared.clear()
        self.cut_connections()

    def _bind(self, address: tuple[object, ...]) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound
