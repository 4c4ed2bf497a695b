"""Bounds of a connection: with short times, on a real server in this process."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import uvicorn
from mira_producer.gateway.http import connections
from mira_producer.gateway.http.connections import BoundedProtocol
from starlette.types import Receive, Scope, Send

from tests.support.waiting import wait_until

TIMEOUT_S = 30
SHORT_S = 0.2


async def echo_size(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with the size of the body. A path /reject responds before the body is read."""
    size = 0
    while scope["path"] != "/reject":
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        if not message["more_body"]:
            break
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def port() -> Iterator[int]:
    config = uvicorn.Config(echo_size, http=BoundedProtocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])))
        thread.start()
        wait_until("the server listens", lambda: server.started)
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HEADERS_WITHIN_S", "BODY_IDLE_S", "LINGER_S", "LINGER_REJECTED_S"):
        monkeypatch.setattr(connections, name, SHORT_S)


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), TIMEOUT_S)


def response(connection: socket.socket) -> bytes:
    """Return the body of a response of `echo_size`."""
    with connection.makefile("rb") as stream:
        assert stream.readline().startswith(b"HTTP/1.1 200 ")
        headers = dict(line.split(b": ") for line in iter(stream.readline, b"\r\n"))
        return stream.read(int(headers[b"content-length"]))


def until_closed(connection: socket.socket) -> bytes:
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionResetError:
        pass
    return found


@pytest.mark.usefixtures("short_times")
@pytest.mark.parametrize(
    "begun",
    [b"", b"POST / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"],
    ids=["nothing", "half of its headers", "half of its body"],
)
def test_a_client_that_stops_sending_is_cut_off(port: int, begun: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(begun)

        assert until_closed(connection) == b""


@pytest.mark.usefixtures("short_times")
def test_line_breaks_between_two_requests_do_not_keep_a_connection(port: int) -> None:
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert response(connection) == b"0"
        connection.sendall(b"\r\n")

        assert until_closed(connection) == b""


def test_a_connection_over_the_limit_gets_an_error_that_can_be_retried(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    open_ones = [connect(port) for _ in range(3)]
    with connect(port) as connection:
        head, _, body = until_closed(connection).partition(b"\r\n\r\n")
    for each in open_ones:
        each.close()

    assert head.startswith(b"HTTP/1.1 503 ")
    assert b"x-should-retry: true" in head
    assert json.loads(body)["error"]["code"] == "too_many_connections"


@pytest.mark.usefixtures("short_times")
def test_a_response_before_the_end_of_the_body_arrives_and_the_rest_is_dropped_for_a_while(port: int) -> None:
    size = 20_000_000
    with connect(port) as connection:
        connection.sendall(f"POST /reject HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
        connection.sendall(b"y" * (size - 1))

        # The last byte never comes.
        assert until_closed(connection).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("piece", [1, 1000, 5_000_000])
def test_a_body_of_any_pieces_arrives_complete_and_the_connection_is_used_again(port: int, piece: int) -> None:
    size = 300 if piece == 1 else 5_000_000
    with connect(port) as connection:
        for _ in range(2):
            connection.sendall(f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n".encode())
            for start in range(0, size, piece):
                connection.sendall(b"y" * min(piece, size - start))

            assert response(connection) == str(size).encode()
