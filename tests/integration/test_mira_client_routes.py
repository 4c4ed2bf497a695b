"""The way of a call: proxies of the environment, and certificates."""

from __future__ import annotations

import select
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from mira_worker.transport import HttpResponse, NoResponse
from requests.adapters import HTTPAdapter

from mira_queue.contract.endpoint import checked_base
from mira_queue.contract.settings import SettingsError
from mira_queue.runtime.network_path import CA_VARIABLES
from tests.support.calls import OK, client, fault, post
from tests.support.queue_process import API_KEY
from tests.support.raw_server import RawServer, Request, always, closing, response


def relay(connection: socket.socket, port: int) -> None:
    """Pass bytes on in both directions until one side ends."""
    with socket.create_connection(("127.0.0.1", port)) as beyond:
        both = {connection: beyond, beyond: connection}
        while True:
            for side in select.select(list(both), [], [])[0]:
                data = side.recv(65536)
                if not data:
                    return
                both[side].sendall(data)


# --- proxies of the environment ---


def test_the_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(always(OK)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        answer = post("http://api.example.invalid/v1")

    assert isinstance(answer, HttpResponse)
    assert proxy.requests[0].line == "POST http://api.example.invalid/v1/chat/completions HTTP/1.1"


def test_a_host_that_needs_no_proxy_is_called_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(always(OK)) as proxy, RawServer(always(OK)) as server:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        post(server.url)

    assert (len(proxy.requests), len(server.requests)) == (0, 1)


def test_a_proxy_never_sees_the_key_of_a_tls_call(monkeypatch: pytest.MonkeyPatch) -> None:
    with RawServer(closing(response(403, b"not allowed"))) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        answer = post("https://api.example.invalid/v1")

    assert "proxy" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed
    (request,) = proxy.requests
    assert request.line.startswith("CONNECT api.example.invalid:443")
    assert API_KEY not in str(request)


def test_first_calls_that_leave_together_find_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(2)

    def look_at_the_certificate(*_: object) -> None:
        # Nobody comes here while another one looks for the way: then it goes on alone.
        with suppress(threading.BrokenBarrierError):
            together.wait(0.5)

    monkeypatch.setattr(HTTPAdapter, "cert_verify", look_at_the_certificate)
    with RawServer(always(OK)) as server, client(server.url) as mira, ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(mira.post, b"{}") for _ in range(2)]
        assert [type(answer.result()) for answer in answers] == [HttpResponse, HttpResponse]


def test_a_refused_proxy_is_named_and_nothing_was_sent(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:hush@127.0.0.1:{closed_port}")
    answer = post("http://api.example.invalid/v1")

    assert f"127.0.0.1:{closed_port}" in fault(answer).detail
    assert "hush" not in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed


class SocksProxy(RawServer):
    """A SOCKS5 proxy that connects to `port_beyond`, whatever host the client names."""

    port_beyond = 0
    hosts: tuple[bytes, ...] = ()

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb", buffering=0) as reader:
            reader.read(reader.read(2)[1])
            connection.sendall(b"\x05\x00")
            assert reader.read(4) == b"\x05\x01\x00\x03"  # A host name: the proxy resolves it.
            self.hosts += (reader.read(reader.read(1)[0]),)
            reader.read(2)
        connection.sendall(b"\x05\x00\x00\x01" + bytes(6))
        relay(connection, self.port_beyond)


def test_calls_through_a_socks_proxy_share_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("socks")
    with RawServer(always(OK)) as server, SocksProxy(always(b"")) as proxy:
        proxy.port_beyond = server.port
        monkeypatch.setenv("all_proxy", f"socks5h://127.0.0.1:{proxy.port}")
        with client("http://api.example.invalid/v1") as found:
            answers = [found.post(b"{}") for _ in range(3)]

    assert [type(answer) for answer in answers] == [HttpResponse] * 3
    assert (proxy.hosts, server.connections) == ((b"api.example.invalid",), 1)


def test_a_socks_proxy_that_refuses_is_named_and_nothing_was_sent(
    closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("socks")
    monkeypatch.setenv("https_proxy", f"socks5h://user:hush@127.0.0.1:{closed_port}")
    answer = post("https://api.example.invalid/v1")

    assert "proxy" in fault(answer).detail
    assert "hush" not in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed


# --- what was never sent ---


def test_a_refused_connection_and_an_unknown_host_were_never_sent(closed_port: int) -> None:
    for base in (f"http://127.0.0.1:{closed_port}/v1", "http://no-such-host.invalid/v1"):
        answer = post(base)
        assert isinstance(answer, NoResponse)
        assert not answer.may_be_billed
        assert base.split("/")[2] in answer.error.detail


# --- the URL and the headers ---


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ("", "/v1/chat/completions"),
        ("?api-version=2024-10-21", "/v1/chat/completions?api-version=2024-10-21"),
        ("/chat/completions", "/v1/chat/completions"),
        ("/chat/completions/?a=1&b=2%20c", "/v1/chat/completions?a=1&b=2%20c"),
    ],
)
def test_the_path_is_appended_once_and_before_the_query(given: str, path: str) -> None:
    with RawServer(always(OK)) as server:
        post(checked_base(f"{server.url}{given}"))

    assert server.requests[0].line == f"POST {path} HTTP/1.1"


def test_the_key_is_sent_in_its_header_and_additional_headers_with_it() -> None:
    with (
        RawServer(always(OK)) as server,
        client(server.url, headers={"X-Team": "search"}, key_header="api-key") as ours,
    ):
        ours.post(b"{}")

    (request,) = server.requests
    assert (request.headers["api-key"], request.headers["x-team"]) == (API_KEY, "search")
    assert "authorization" not in request.headers


def test_a_header_that_a_server_quotes_is_not_shown() -> None:
    token = "b3" * 16
    quoted = response(400, f"unknown token {token}".encode(), f"X-Echo: {token}")
    with (
        RawServer(always(quoted)) as server,
        client(server.url, headers={"Proxy-Key": f"Bearer {token}"}) as ours,
    ):
        answer = ours.post(b"{}")

    assert isinstance(answer, HttpResponse)
    assert token not in str(answer.headers) + ours.redact(answer.body.decode())


# --- TLS ---


@pytest.mark.parametrize("name", CA_VARIABLES)
def test_a_missing_ca_file_is_named_before_the_first_call(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "/does/not/exist.pem")

    with pytest.raises(SettingsError, match=f"^{name}: /does/not/exist.pem does not exist"):
        post("https://api.example.invalid/v1")


def test_a_certificate_that_nobody_vouches_for_gets_no_key(tls_server: RawServer) -> None:
    answer = post(tls_server.url)

    assert "REQUESTS_CA_BUNDLE" in fault(answer).detail
    assert "self-signed" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed
    assert tls_server.requests == []


@pytest.mark.parametrize("name", CA_VARIABLES)
def test_a_certificate_that_the_environment_trusts_is_accepted(
    name: str, tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, str(certificate))

    assert isinstance(post(tls_server.url), HttpResponse)


def test_calls_over_tls_share_a_connection(
    tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TLS 1.3 sends session tickets that nobody asked for: a connection that holds them is in step."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with client(tls_server.url) as found:
        answers = [found.post(b"{}") for _ in range(5)]

    assert [type(answer) for answer in answers] == [HttpResponse] * 5
    assert tls_server.connections == 1


def test_bytes_after_a_response_over_tls_end_its_connection(
    tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    tls_server.answer = always(OK + OK)
    with client(tls_server.url) as found:
        answers = [found.post(b"{}") for _ in range(5)]

    assert [type(answer) for answer in answers] == [HttpResponse] * 5
    assert tls_server.connections == 5


class Tunnel(RawServer):
    """A proxy that connects to `port_beyond`, whatever host the client names."""

    port_beyond = 0

    def _serve(self, connection: socket.socket) -> None:
        with connection.makefile("rb", buffering=0) as reader:
            self._read(reader)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relay(connection, self.port_beyond)


def test_calls_through_a_tunnel_share_a_connection(
    tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with Tunnel(always(b"")) as proxy:
        proxy.port_beyond = tls_server.port
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        with client(tls_server.url) as found:
            answers = [found.post(b"{}") for _ in range(5)]

    assert [type(answer) for answer in answers] == [HttpResponse] * 5
    assert (proxy.connections, tls_server.connections) == (1, 1)


def test_a_proxy_that_drips_its_response_is_left_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(request: Request, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 ")
        while True:
            connection.sendall(b"x")
            threading.Event().wait(0.02)

    with RawServer(drip) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        answer = post("https://api.example.invalid/v1", total=timedelta(seconds=0.5))

    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed
    assert answer.latency_ms < 5_000
