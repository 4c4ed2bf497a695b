"""An answer belongs to its call: whatever a server sends next to a response, no other call reads it."""

from __future__ import annotations

import gzip
import select
import socket
import threading
import time
import zlib
from collections.abc import Callable
from datetime import timedelta
from itertools import count

import orjson
import pytest
from mira_worker.exchange import MAX_HEAD_BYTES, _CheckedConnection, received
from mira_worker.transport import HttpResponse, MiraClient, NoResponse

from mira_queue.contract.errors import InvalidResponse, Unreachable
from tests.support.calls import client, fault, post
from tests.support.raw_server import RawServer, Request, always, response
from tests.support.waiting import wait_until

Answer = Callable[[Request, socket.socket], None]
BOUND = timedelta(seconds=0.5)
# The bound, and what a machine with other things to do may need on top.
BOUND_MS = 5_000


def echo(request: Request) -> bytes:
    return response(200, b"to " + request.body)


def bodies(client: MiraClient, calls: int = 8) -> list[bytes]:
    """Answers of so many calls, one after the other, on as few connections as the client likes."""
    answers = [client.post(b"call %d" % number) for number in range(calls)]
    return [answer.body if isinstance(answer, HttpResponse) else b"" for answer in answers]


def own(calls: int = 8) -> list[bytes]:
    return [b"to call %d" % number for number in range(calls)]


def after(interim: bytes, pause_s: float = 0.05) -> Answer:
    """Interim responses, then the answer, later."""

    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(interim)
        threading.Event().wait(pause_s)
        connection.sendall(echo(request))

    return respond


@pytest.mark.parametrize(
    "interim",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 102 Processing\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n",
        b"HTTP/1.1 199 Whatever\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 \r\n\r\n" + b"HTTP/1.1 103 \r\nLink: <x>\r\n\r\n" * 200,
    ],
    ids=["100", "102", "103", "199", "many"],
)
def test_interim_responses_are_skipped_until_the_final_one(interim: bytes) -> None:
    with RawServer(after(interim)) as server, client(server.url) as found:
        assert bodies(found) == own()

    # The exchange ended cleanly: interim responses are no reason to connect anew.
    assert server.connections == 1


def test_the_final_response_may_be_late() -> None:
    with RawServer(after(b"HTTP/1.1 103 Early Hints\r\n\r\n", pause_s=0.7)) as server, client(server.url) as found:
        assert bodies(found, 3) == own(3)


def test_a_server_that_switches_protocols_is_broken_and_its_connection_is_not_reused() -> None:
    def switch(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n" + echo(request))

    with RawServer(switch) as server, client(server.url) as found:
        answers = [found.post(b"{}") for _ in range(2)]

    assert [type(fault(answer)) for answer in answers] == [InvalidResponse] * 2
    assert all(isinstance(answer, NoResponse) and answer.may_be_billed for answer in answers)
    assert server.connections == 2


@pytest.mark.parametrize(
    "extra",
    [
        lambda request: echo(request),
        lambda request: response(200, b"somebody else's"),
        lambda request: b"x",
        lambda request: b"\r\n",
        lambda request: b"x" * 300_000,
    ],
    ids=["the response again", "another response", "a byte", "a line end", "more than any buffer"],
)
def test_bytes_after_a_response_reach_no_other_call(extra: Callable[[Request], bytes]) -> None:
    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(echo(request) + extra(request))

    with RawServer(respond) as server, client(server.url) as found:
        assert bodies(found) == own()

    assert server.connections == 8


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, and more",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 30\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nextra",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello, and more",
    ],
    ids=[
        "204 with a body",
        "304 with a body",
        "204 with chunks",
        "too short a length",
        "two lengths",
        "no number",
        "two codings",
        "chunks and a length",
        "bytes after the last chunk",
        "HTTP/1.0 and bytes beyond",
    ],
)
def test_a_connection_whose_response_has_no_certain_end_is_not_reused(answer: bytes) -> None:
    """The bytes beyond come with the response, and a moment later."""

    def respond(request: Request, connection: socket.socket) -> None:
        if request.number % 2 == 0:
            connection.sendall(answer)
            connection.settimeout(0.05)
        else:
            connection.sendall(echo(request))

    with RawServer(respond) as server, client(server.url, total=timedelta(seconds=2)) as found:
        for number in range(4):
            found.post(b"first %d" % number)
            answered = found.post(b"second %d" % number)
            assert isinstance(answered, HttpResponse)
            assert answered.body == b"to second %d" % number

    assert server.connections >= 5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Trailer: 1\r\nX-More: 2\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        response(200, b""),
    ],
    ids=["trailers", "HTTP/1.0 that keeps the connection", "204", "an empty body"],
)
def test_a_connection_is_kept_when_its_response_ended_cleanly(answer: bytes) -> None:
    with RawServer(always(answer)) as server, client(server.url) as found:
        for _ in range(4):
            found.post(b"{}")

    assert server.connections == 1


def test_bytes_that_arrive_while_a_connection_is_idle_reach_no_call() -> None:
    sent = threading.Event()

    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(echo(request))
        if request.number == 0:
            # After the client has read the answer, or the bytes would come with it.
            assert sent.wait(10)
            connection.sendall(response(200, b"nobody asked for this"))
            sent.clear()

    with RawServer(respond) as server, client(server.url) as found:
        assert bodies(found, 1) == own(1)
        sent.set()
        wait_until("the bytes to be sent", lambda: not sent.is_set())
        assert bodies(found) == own()

    # From now on, no call shares a connection with another.
    assert server.connections == 9


def test_a_response_before_its_request_is_not_read_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    class Greeting(RawServer):
        def _serve(self, connection: socket.socket) -> None:
            connection.sendall(response(200, b"nobody asked for this"))
            super()._serve(connection)

    connect = _CheckedConnection.connect

    def connect_slowly(connection: _CheckedConnection) -> None:
        """So that the greeting is there when the request is sent."""
        connect(connection)
        select.select([connection.sock], [], [])

    monkeypatch.setattr(_CheckedConnection, "connect", connect_slowly)
    with Greeting(lambda request, connection: connection.sendall(echo(request))) as server, client(server.url) as found:
        answers = [found.post(b"call") for _ in range(3)]

    assert [type(fault(answer)) for answer in answers] == [InvalidResponse] * 3
    assert not any(isinstance(answer, NoResponse) and answer.may_be_billed for answer in answers)
    assert server.requests == []


def test_a_second_response_on_a_connection_that_was_used_makes_its_call_one_that_may_be_billed() -> None:
    def respond(request: Request, connection: socket.socket) -> None:
        if request.number == 0:
            connection.sendall(echo(request))
        elif request.number == 1:
            # What a server does that is one response late: the answer comes behind another one.
            connection.sendall(response(200, b"one call late") + echo(request))
        else:
            connection.sendall(echo(request))

    with RawServer(respond) as server, client(server.url) as found:
        found.post(b"call 0")
        doubtful = found.post(b"call 1")
        assert bodies(found) == own()

    assert isinstance(fault(doubtful), InvalidResponse)
    assert isinstance(doubtful, NoResponse)
    assert doubtful.may_be_billed
    assert server.connections == 9


def test_the_rest_of_a_response_that_came_too_late_reaches_no_other_call() -> None:
    given_up = threading.Event()

    def respond(request: Request, connection: socket.socket) -> None:
        whole = echo(request)
        if request.number == 0:
            connection.sendall(whole[:-4])
            assert given_up.wait(10)
            connection.sendall(whole[-4:] + whole)
        else:
            connection.sendall(whole)

    with RawServer(respond) as server, client(server.url, total=BOUND) as found:
        late = found.post(b"late")
        given_up.set()
        assert bodies(found) == own()

    assert isinstance(late, NoResponse)
    assert late.may_be_billed


def test_an_early_rejection_of_a_large_request_is_read_and_its_connection_is_not_reused() -> None:
    class Early(RawServer):
        """Responds to the headers; the body is not read."""

        def _read(self, reader: object) -> Request | None:
            line = reader.readline().decode().strip()  # type: ignore[attr-defined]
            while line and reader.readline().strip():  # type: ignore[attr-defined]
                pass
            return Request(line, {}, b"", 0) if line else None

    status = count(0)

    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(response(413 if next(status) == 0 else 200, b"no need for all of that"))
        threading.Event().wait(0.3)

    large = b"x" * 50_000_000
    with Early(respond) as server, client(server.url) as found:
        rejected, answered = found.post(large), found.post(large)

    assert isinstance(rejected, HttpResponse)
    assert rejected.status == 413
    # An answer to a request that was not sent completely is an answer to another one.
    assert isinstance(fault(answered), InvalidResponse)
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    closed: list[int] = []

    def respond(request: Request, connection: socket.socket) -> None:
        connection.sendall(echo(request))
        connection.shutdown(socket.SHUT_RDWR)
        closed.append(request.number)

    with RawServer(respond) as server, client(server.url) as found:
        for _ in range(4):
            assert bodies(found, 1) == own(1)
            wait_until("the connection to be closed", lambda: len(closed) == len(server.requests))

    assert server.connections == 4


# --- one deadline ---


def forever(
    request: Request, connection: socket.socket, head: bytes, piece: Callable[[], bytes], pause_s: float
) -> None:
    connection.sendall(head)
    while True:
        connection.sendall(piece())
        time.sleep(pause_s)


def gzip_of_nothing() -> Callable[[], bytes]:
    packer = zlib.compressobj(wbits=31)
    started = [packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)]

    def piece() -> bytes:
        block = started.pop() if started else b"\x00\x00\x00\xff\xff"
        return b"%x\r\n%s\r\n" % (len(block), block)

    return piece


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
DRIPS: dict[str, tuple[bytes, Callable[[], Callable[[], bytes]], float]] = {
    "a status line": (b"HTTP/1.1 200 ", lambda: lambda: b"x", 0.02),
    "headers": (b"HTTP/1.1 200 OK\r\nX: ", lambda: lambda: b"y", 0.02),
    "header lines": (b"HTTP/1.1 200 OK\r\n", lambda: lambda: b"Y: z\r\n", 0.02),
    "interim responses": (b"", lambda: lambda: b"HTTP/1.1 100 Continue\r\n\r\n", 0.02),
    "a chunk's size": (CHUNKED + b"\r\n", lambda: lambda: b"0", 0.02),
    "a chunk's extension": (CHUNKED + b"\r\n1;", lambda: lambda: b"x", 0.02),
    "trailers": (CHUNKED + b"\r\n1\r\nx\r\n0\r\n", lambda: lambda: b"T: 1\r\n", 0.02),
    "chunks": (CHUNKED + b"\r\n", lambda: lambda: b"1\r\nx\r\n", 0.02),
    "blocks of gzip without content": (CHUNKED + b"Content-Encoding: gzip\r\n\r\n", gzip_of_nothing, 0.02),
    "a stream": (CHUNKED + b"Content-Type: text/event-stream\r\n\r\n", lambda: lambda: b"7\r\n: ping\n\r\n", 0.02),
    "a body without a length": (b"HTTP/1.1 200 OK\r\n\r\n", lambda: lambda: b"x", 0.02),
    # As fast as it goes: each read finds something.
    "a flood of trailers": (CHUNKED + b"\r\n1\r\nx\r\n0\r\n", lambda: lambda: b"T: 1\r\n" * 1000, 0.0),
    "a flood of gzip without content": (CHUNKED + b"Content-Encoding: gzip\r\n\r\n", gzip_of_nothing, 0.0),
}


@pytest.mark.parametrize("what", DRIPS)
def test_the_request_timeout_bounds_the_whole_response(what: str) -> None:
    head, make, pause_s = DRIPS[what]
    piece = make()
    with RawServer(lambda request, connection: forever(request, connection, head, piece, pause_s)) as server:
        answer = post(server.url, total=BOUND)

    assert "MIRA_REQUEST_TIMEOUT" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert answer.may_be_billed
    assert 500 <= answer.latency_ms < BOUND_MS


def test_a_server_that_does_not_take_the_request_is_left_at_the_deadline() -> None:
    class Deaf(RawServer):
        def _read(self, reader: object) -> Request | None:
            threading.Event().wait(3)
            return None

    with Deaf(always(b"")) as server:
        answer = post(server.url, b"x" * 50_000_000, total=BOUND)

    assert isinstance(fault(answer), Unreachable)
    assert answer.latency_ms < BOUND_MS / 2


@pytest.mark.parametrize(
    "flood", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 \r\nX: %s\r\n\r\n" % (b"y" * 1000)], ids=["100", "103"]
)
def test_the_size_of_interim_responses_is_bounded(flood: bytes) -> None:
    with RawServer(lambda request, connection: forever(request, connection, b"", lambda: flood * 100, 0)) as server:
        answer = post(server.url)

    assert isinstance(fault(answer), InvalidResponse)
    assert f"{MAX_HEAD_BYTES:,}" in fault(answer).detail


def test_a_compressed_answer_is_read_to_its_end_and_keeps_its_connection() -> None:
    text = orjson.dumps({"x": "y" * 50_000})
    packed = response(200, gzip.compress(text), "Content-Encoding: gzip")
    with RawServer(always(packed)) as server, client(server.url) as found:
        answers = [found.post(b"{}") for _ in range(3)]

    assert [answer.body for answer in answers if isinstance(answer, HttpResponse)] == [text] * 3
    assert server.connections == 1


# --- what a connection has received ---


def test_a_quiet_connection_has_received_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(3)
        assert received(ours) is None
        theirs.sendall(b"x")
        assert received(ours) == b"x"
        theirs.close()
        assert received(ours) == b""
        assert ours.gettimeout() == 3
