"""One POST to the API and its answer, as values. The only file that knows `requests`."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from mira_queue.contract.errors import InvalidResponse, ServiceFault, Unreachable

USER_AGENT = "mira-queue/0.1"
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What came back, whole: status, headers (names in lower case), body, and the time it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_ms: int


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing usable came back. `may_be_billed`: the request had left when it broke."""

    fault: ServiceFault
    may_be_billed: bool
    latency_ms: int = field(default=0)


class Transport(Protocol):
    """Where a call goes: the client below, or a function of a test's."""

    def post(self, body: bytes) -> HttpAnswer | NoAnswer: ...


class MiraClient:
    """Pooled keep-alive connections to `{api_base}/chat/completions`, safe to share between threads.

    Certificates are verified, the environment's proxies honoured (both looked up once), redirects never followed (they
    would carry the key elsewhere), cookies never kept, answers bounded in size and in total time.
    """

    def __init__(
        self,
        api_base: str,
        api_key: SecretStr,
        *,
        connect_timeout: timedelta,
        total_timeout: timedelta,
        max_response_bytes: int,
        connections: int,
    ) -> None:
        self._total_s = total_timeout.total_seconds()
        self._timeout = urllib3.Timeout(connect=min(connect_timeout.total_seconds(), self._total_s), read=self._total_s)
        self._max_bytes = max_response_bytes
        self._secret = api_key.get_secret_value().encode()
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=connections, max_retries=0)
        # Prepared without a session, which would put a password of ~/.netrc in the key's place.
        self._template = requests.Request(
            "POST",
            f"{api_base}/chat/completions",
            headers={
                "Authorization": f"Bearer {api_key.get_secret_value()}",
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "User-Agent": USER_AGENT,
            },
        ).prepare()
        with requests.Session() as session:
            self._environment: Any = session.merge_environment_settings(self._template.url, {}, None, None, None)
        # The template's own is that of no body; urllib3 writes each body's.
        self._headers = {name: text for name, text in self._template.headers.items() if name != "Content-Length"}
        self._route: tuple[Any, str] | None = None
        self._finding = threading.Lock()

    def post(self, body: bytes) -> HttpAnswer | NoAnswer:
        """Send one request body. Never raises for what the network or the server does."""
        began_s = time.monotonic()
        response: urllib3.BaseHTTPResponse | None = None
        try:
            pool, url = self._route or self._find_route()
            response = pool.urlopen(
                "POST",
                url,
                body,
                self._headers,
                timeout=self._timeout,
                retries=False,
                redirect=False,
                assert_same_host=False,
                preload_content=False,
                decode_content=False,
            )
            content = self._read(response, began_s)
            headers = {name.lower(): self._quoted(value) for name, value in response.headers.items()}
            return HttpAnswer(response.status, headers, self._without_key(content), _since_ms(began_s))
        except _TooLong as error:
            return NoAnswer(InvalidResponse(str(error)), True, _since_ms(began_s))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            fault, may_be_billed = translate(error, has_begun=response is not None)
            return NoAnswer(fault, may_be_billed, _since_ms(began_s))
        finally:
            if response is not None:
                # An answer that was not read to its end closes its connection; else that is in the pool already.
                response.close()
                response.release_conn()

    def close(self) -> None:
        self._adapter.close()

    def _find_route(self) -> tuple[Any, str]:
        """The pool that requests chooses, and makes safe, for this URL; and what it asks there.

        Once: asked for with every call, and with an answer of requests' own around it (cookies, redirects, hooks, which
        we do not want), a call costs half as much again.
        """
        # Of the first calls, which leave together, one: a class that is in one piece already cannot be made so again.
        with self._finding:
            if self._route is None:
                verify, cert, proxies = (self._environment[name] for name in ("verify", "cert", "proxies"))
                pool: Any = self._adapter.get_connection_with_tls_context(self._template, verify, proxies, cert)
                self._adapter.cert_verify(pool, self._template.url, verify, cert)  # type: ignore[no-untyped-call]
                pool.ConnectionCls = type("Connection", (_InOnePiece, pool.ConnectionCls), {})
                self._route = pool, self._adapter.request_url(self._template, proxies)
            return self._route

    def _read(self, response: urllib3.BaseHTTPResponse, began_s: float) -> bytes:
        """The body. Read as it comes, so that neither an endless nor a dripping answer holds the worker."""
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(_CHUNK, decode_content=True):
            size += len(chunk)
            if size > self._max_bytes:
                raise _TooLong(f"the answer is larger than {self._max_bytes:,} bytes (MIRA_MAX_RESPONSE_BYTES)")
            if time.monotonic() - began_s > self._total_s:
                raise _TooLong(f"the answer was not complete after {self._total_s:g} s (MIRA_REQUEST_TIMEOUT)")
            chunks.append(chunk)
        return b"".join(chunks)

    def _without_key(self, content: bytes) -> bytes:
        """Servers quote the key when they refuse it; it must not reach results and logs."""
        return content.replace(self._secret, b"***") if self._secret and self._secret in content else content

    def _quoted(self, header: str) -> str:
        """The same for a header, such as the target of a redirect; the key is ASCII."""
        return header.replace(self._secret.decode(), "***") if self._secret else header


class _InOnePiece:
    """A connection of urllib3's that sends headers and body together: half the system calls, one packet for most."""

    _pieces: list[bytes] | None = None

    def request(self, *args: Any, **options: Any) -> None:
        self._pieces = []
        try:
            super().request(*args, **options)  # type: ignore[misc]
            whole = b"".join(self._pieces)
        finally:
            self._pieces = None
        self.send(whole)

    def send(self, data: bytes) -> None:
        if self._pieces is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._pieces.append(data)


class _TooLong(Exception):
    """The answer passed a bound of ours."""


_Row = tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], str, bool]

# The first row that fits holds. (what happened, the fault it is, its words, may the call have been billed)
_TABLE: tuple[_Row, ...] = (
    (urllib3.exceptions.ProxyError, Unreachable, "the proxy of the environment cannot be used", False),
    (urllib3.exceptions.SSLError, Unreachable, "no trusted TLS connection", False),
    (urllib3.exceptions.NewConnectionError, Unreachable, "no connection: refused, or the host is unknown", False),
    (urllib3.exceptions.ConnectTimeoutError, Unreachable, "no connection in time (MIRA_CONNECT_TIMEOUT)", False),
    (urllib3.exceptions.ReadTimeoutError, Unreachable, "no answer in time (MIRA_REQUEST_TIMEOUT)", True),
    (urllib3.exceptions.ProtocolError, Unreachable, "the connection broke", True),
    ((urllib3.exceptions.HTTPError, OSError, ValueError), Unreachable, "the call failed", True),
)
# The same, when an answer had begun.
_TABLE_OF_THE_BEGUN: tuple[_Row, ...] = (
    (urllib3.exceptions.ReadTimeoutError, InvalidResponse, "the answer stopped half way (MIRA_REQUEST_TIMEOUT)", True),
    (
        (urllib3.exceptions.HTTPError, OSError, ValueError),
        InvalidResponse,
        "the answer broke off or cannot be decoded",
        True,
    ),
)


def translate(error: Exception, *, has_begun: bool = False) -> tuple[ServiceFault, bool]:
    """The fault that an exception of the transport is, its cause kept, and whether the call may have been billed.

    `has_begun`: status and headers of an answer had come.
    """
    for kinds, fault, words, may_be_billed in _TABLE_OF_THE_BEGUN if has_begun else _TABLE:
        if isinstance(error, kinds):
            found = fault(words)
            found.__cause__ = error
            return found, may_be_billed
    raise error


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
