"""Bounds of a request: the names in its Host header, and the size of its body."""

from __future__ import annotations

from collections.abc import AsyncIterator
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.responses import error_response
from mira_queue.contract.settings import LOOPBACK_HOSTS, variable

ANY_HOST = "*"


class AllowedHosts:
    """Middleware that rejects other names in the Host header.

    A page in a browser can let its own name point to this machine (DNS rebinding), but not an address. Addresses are
    therefore always allowed.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self._app = app
        self._hosts = hosts | set(LOOPBACK_HOSTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = host_of(Headers(scope=scope).get("host", ""))
            if not (ANY_HOST in self._hosts or name in self._hosts or _is_address(name)):
                error = ApiError(
                    421,
                    f"this gateway has no name {name[:80]!r}: add it to {variable('gateway_hosts')}",
                    code="unknown_host",
                )
                await error_response(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def host_of(header: str) -> str:
    """Return the name or address of a Host header, without the port, in lower case."""
    header = header.strip().lower()
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].removesuffix(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def too_large(max_bytes: int) -> ApiError:
    """Return the error for a body, or a file in it, over the limit."""
    return ApiError(413, f"over the limit of {max_bytes:,} bytes", code="request_too_large")


async def body_pieces(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises ApiError (413), and ClientDisconnect if the connection breaks."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise too_large(max_bytes)
    count = 0
    async for piece in request.stream():
        count += len(piece)
        if count > max_bytes:
            raise too_large(max_bytes)
        yield piece
