"""The way of a call: proxies of the environment, and certificates."""

from __future__ import annotations

import select
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from mira_worker.transport import HttpResponse, NoResponse
from requests.adapters import HTTPAdapter

from tests.support.calls import OK, client, fault, post
from tests.support.queue_process import API_KEY
from tests.support.raw_server import RawServer, Request, always, closing, response

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


# --- TLS ---


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate, with its key, that nobody trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(path.with_suffix(".key")), "-out", str(path)]
    subprocess.run([*command, *names], check=True, capture_output=True, timeout=60)
    return path


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[RawServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    with RawServer(always(OK), context) as server:
        yield server


def test_a_certificate_that_nobody_vouches_for_gets_no_key(tls_server: RawServer) -> None:
    answer = post(tls_server.url)

    assert "TLS" in fault(answer).detail
    assert isinstance(answer, NoResponse)
    assert not answer.may_be_billed
    assert tls_server.requests == []


def test_a_certificate_that_the_environment_trusts_is_accepted(
    tls_server: RawServer, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))

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
        with socket.create_connection(("127.0.0.1", self.port_beyond)) as beyond:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            both = {connection: beyond, beyond: connection}
            while True:
                for side in select.select(list(both), [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    both[side].sendall(data)


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
