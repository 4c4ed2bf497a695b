"""The Mira client against servers that behave, and servers that do not."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mira_worker.response_meaning import Failed, read_response
from mira_worker.transport import HttpResponse, NoResponse

from mira_queue.contract.errors import InvalidResponse, Redirected, Unreachable
from tests.support.calls import MAX_BYTES, OK, client, fault, post
from tests.support.queue_process import API_KEY
from tests.support.raw_server import COMPLETION, RawServer, Request, always, closing, response


def test_the_request_is_sent_as_the_api_wants_it() -> None:
    with RawServer(always(OK)) as server:
        answer = post(server.url, b'{"model": "mira"}')

    assert isinstance(answer, HttpResponse)
    assert (answer.status, answer.body) == (200, COMPLETION)
    assert answer.headers["content-type"] == "application/json"
    (request,) = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.headers["authorization"] == f"Bearer {API_KEY}"
    assert request.headers["content-type"] == "application/json"
    assert request.body == b'{"model": "mira"}'


def test_calls_after_one_another_share_a_connection() -> None:
    with RawServer(always(OK)) as server, client(server.url) as found:
        for _ in range(5):
            assert isinstance(found.post(b"{}"), HttpResponse)

    assert (len(server.requests), server.connections) == (5, 1)


def test_an_error_answer_keeps_the_connection_too() -> None:
    with RawServer(always(response(503, b'{"detail": "x"}'))) as server, client(server.url) as found:
        for _ in range(3):
            found.post(b"{}")

    assert server.connections == 1


def test_a_redirect_is_not_followed_and_says_where_it_led() -> None:
    with RawServer(always(OK)) as elsewhere:
        with RawServer(always(response(307, b"", f"Location: {elsewhere.url}/chat/completions"))) as server:
            answer = post(server.url)
        assert elsewhere.connections == 0

    assert isinstance(answer, HttpResponse)
    meaning = read_response(answer, datetime.now(UTC))
    assert isinstance(meaning, Failed)
    assert isinstance(meaning.error, Redirected)
    assert elsewhere.url in meaning.error.detail


def test_cookies_are_not_kept() -> None:
    answer = response(200, b"{}", "Set-Cookie: session=1; Path=/")
    with RawServer(always(answer)) as server, client(server.url) as found:
        found.post(b"{}")
        found.post(b"{}")

    assert len(server.requests) == 2
    assert all("cookie" not in request.headers for request in server.requests)


def test_a_password_of_netrc_does_not_take_the_place_of_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with RawServer(always(OK)) as server:
        post(server.url)

    assert server.requests[0].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize(
    "answer",
    [
        response(200, b"x" * (MAX_BYTES + 1)),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"x" * 0x4000 + b"\r\n" * 1
        + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 7,
        response(200, gzip.compress(b"x" * (50 * MAX_BYTES)), "Content-Encoding: gzip"),
        response(500, b"x" * (MAX_BYTES + 1)),
    ],
    ids=["announced", "chunked", "compressed", "an error"],
)  # fmt: skip
def test_an_answer_larger_than_the_bound_is_a_fault(answer: bytes) -> None:
    with RawServer(always(answer)) as server:
        found = fault(post(server.url))

    assert isinstance(found, InvalidResponse)
    assert "MIRA_MAX_RESPONSE_BYTES" in found.detail


def test_an_answer_as_large_as_the_bound_is_taken() -> None:
    with RawServer(always(response(200, b"x" * MAX_BYTES))) as server:
        answer = post(server.url)

    assert isinstance(answer, HttpResponse)
    assert len(answer.body) == MAX_BYTES


def dripping(gone: threading.Event) -> Callable[[Request, socket.socket], None]:
    """A byte now and then, for as long as somebody listens."""

    def drip(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while not gone.wait(0.02):
            connection.sendall(b" ")

    return drip


def test_an_answer_that_drips_is_cut_off_after_the_total_time() -> None:
    gone = threading.Event()
    with RawServer(dripping(gone)) as server:
        # Each byte comes well within the time: only the total can end this.
        answer = post(server.url, total=timedelta(seconds=0.5))
        gone.set()

    assert isinstance(fault(answer), InvalidResponse)
    assert "MIRA_REQUEST_TIMEOUT" in fault(answer).detail
    assert answer.latency_ms >= 500


def test_an_answer_may_take_longer_than_a_connection() -> None:
    def answer_late(request: Request, connection: socket.socket) -> None:
        threading.Event().wait(0.4)
        connection.sendall(response(200, COMPLETION))

    with RawServer(answer_late) as server:
        answer = post(server.url, connect=timedelta(seconds=0.1))

    assert isinstance(answer, HttpResponse)


def test_silence_is_a_time_out_that_may_be_billed() -> None:
    def say_nothing(request: Request, connection: socket.socket) -> None:
        """Until the client goes."""
        connection.recv(1)

    with RawServer(say_nothing) as server:
        answer = post(server.url, total=timedelta(seconds=0.3))

    assert isinstance(fault(answer), Unreachable)
    assert "MIRA_REQUEST_TIMEOUT" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert answer.may_be_billed


def test_an_answer_that_stops_half_way_may_be_billed() -> None:
    def stop(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        connection.recv(1)

    with RawServer(stop) as server:
        answer = post(server.url, total=timedelta(seconds=0.3))

    assert isinstance(fault(answer), InvalidResponse)
    assert isinstance(answer, NoResponse)
    assert answer.may_be_billed


def test_a_refused_connection_cannot_have_been_billed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = post(f"http://127.0.0.1:{port}/v1")

    assert isinstance(fault(answer), Unreachable)
    assert "no connection" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed


@given(
    st.binary(max_size=200)
    | st.tuples(
        st.sampled_from(
            [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 503 \r\n", b"HTTP/1.1 99999 ?\r\n", b"HTTP/1.1 101 Up\r\n"]
        ),
        st.lists(
            st.sampled_from(
                [
                    b"Content-Length: 5\r\n",
                    b"Content-Length: -1\r\n",
                    b"Content-Length: nine\r\n",
                    b"Transfer-Encoding: chunked\r\n",
                    b"Content-Encoding: gzip\r\n",
                    b"Content-Encoding: deflate\r\n",
                    b"no colon\r\n",
                    b"\xff: \xff\r\n",
                ]
            )
        ),
        st.just(b"\r\n"),
        st.binary(max_size=40),
    ).map(lambda parts: parts[0] + b"".join(parts[1]) + parts[2] + parts[3])
)
@settings(max_examples=150, deadline=None)
def test_whatever_bytes_come_they_become_a_value(sent: bytes) -> None:
    with RawServer(closing(sent)) as server:
        answer = post(server.url)

    assert isinstance(answer, HttpResponse | NoResponse)
    assert read_response(answer, datetime.now(UTC))


# --- the key ---


def test_a_header_that_quotes_the_key_is_redacted() -> None:
    with RawServer(always(response(302, b"", f"Location: https://x.example/?key={API_KEY}"))) as server:
        answer = post(server.url)

    assert isinstance(answer, HttpResponse)
    assert answer.headers["location"] == "https://x.example/?key=***"


def test_a_body_arrives_as_it_was_sent_even_if_it_contains_the_key() -> None:
    body = f'{{"detail": "bad key {API_KEY}"}}'.encode()
    with RawServer(always(response(401, body))) as server:
        answer = post(server.url)

    assert isinstance(answer, HttpResponse)
    assert answer.body == body


def test_the_client_does_not_show_its_key(closed_port: int) -> None:
    with client(f"http://127.0.0.1:{closed_port}/v1") as found:
        assert API_KEY not in repr(found)
        assert API_KEY not in repr(found.post(b"{}"))
