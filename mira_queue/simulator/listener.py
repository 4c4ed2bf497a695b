"""The port: it is served, or it refuses connections for a while. No other process gets it meanwhile."""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from mira_queue.simulator import wire

BACKLOG = 2048


class Listener:
    """One address that `server` serves."""

    def __init__(self, server: web.Server, host: str, port: int) -> None:
        self._server = server
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self._family = family
        self._socket = self._bind(address)
        self._address = self._socket.getsockname()
        self._listening: asyncio.Server | None = None
        self._protected: set[RequestHandler] = set()

    @property
    def url(self) -> str:
        host, port = self._address[0], self._address[1]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def open(self) -> None:
        if self._listening is None:
            loop = asyncio.get_running_loop()
            self._listening = await loop.create_server(self._server, sock=self._socket, backlog=BACKLOG)

    def refuse(self) -> None:
        """Refuse connections until `open()`. The port stays bound, so that no other process gets it."""
        if self._listening is not None:
            self._listening.close()
            self._listening = None
            self._socket = self._bind(self._address)

    def reset_connections(self) -> None:
        """Reset every connection that is not protected."""
        for connection in self._server.connections:
            if connection not in self._protected:
                wire.reset_connection(connection.transport)

    def protect(self, connection: RequestHandler) -> None:
        """Protect a connection that was used for /sim/ from outages."""
        if connection not in self._protected:
            self._protected = {known for known in self._server.connections if known in self._protected} | {connection}

    def close(self) -> None:
        """Close the port and all connections."""
        if self._listening is not None:
            self._listening.close()
        self._socket.close()
        self._protected.clear()
        self.reset_connections()

    def _bind(self, address: tuple[object, ...]) -> socket.socket:
        bound = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
        return bound
