"""A receiver of webhooks that verifies what arrives as OpenAI's SDK does."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import openai

from tests.support.raw_server import RawServer, Request, response

LOCAL = ("127.0.0.1", "localhost")
OK = response(200)


def receiver(answer: Callable[[Request], bytes] = lambda _: OK) -> RawServer:
    """Return a server whose response to each delivery is `answer`."""

    def send(request: Request, connection: socket.socket) -> None:
        connection.sendall(answer(request))

    return RawServer(send)


def unwrap(request: Request, secret: str) -> Any:
    """Return the event of a delivery. Raises the SDK's error if its signature is wrong."""
    with openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
        return client.webhooks.unwrap(request.body, request.headers, secret=secret)


def types_of(server: RawServer, secret: str) -> list[str]:
    return sorted(unwrap(request, secret).type for request in server.requests)
