"""One POST to the API and its response, as values. Only this file uses `requests`."""

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
from mira_worker.exchange import Exchanges, OutOfStep, checked
from mira_worker.redaction import Redaction

USER_AGENT = "mira-queue/0.1"
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response: status, headers (names in lower case), body, and the time that it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_ms: int


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No usable response. `may_be_billed` is True if the request had been sent."""

    error: ServiceFault
    may_be_billed: bool
    latency_ms: int = field(default=0)


class Transport(Protocol):
    """Sends calls: the client below, or a test's. `redact` replaces the key in texts of errors and logs."""

    def post(self, body: bytes) -> HttpResponse | NoResponse: ...

    def redact(self, text: str) -> str: ...


class MiraClient:
    """Pooled keep-alive connections to `{api_base}/chat/completions`, safe to share between threads.

    Certificates are verified, and the environment's proxies are honored (both are looked up once). Redirects are never
    followed, because they would send the key elsewhere. Cookies are never stored. Responses are bounded in size and in
    total time, and belong to their request (`mira_worker.exchange`).
    """

    def __init__(
        self,
        api_base: str,
        api_key: SecretStr,
        headers: Mapping[str, str] | None = None,
        *,
        connect_timeout: timedelta,
        total_timeout: timedelta,
        max_response_bytes: int,
        connections: int,
    ) -> None:
        self._total_s = total_timeout.total_seconds()
        self._timeout = urllib3.Timeout(connect=min(connect_timeout.total_seconds(), self._total_s), read=self._total_s)
        self._max_bytes = max_response_bytes
        self.redact = Redaction(api_key.get_secret_value())
        self._exchanges = Exchanges()
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=connections, max_retries=0)
        # Prepared without a session, which would replace the key by a password from ~/.netrc.
        self._template = requests.Request(
            "POST",
            f"{api_base}/chat/completions",
            headers={
                **(headers or {}),
                "Authorization": f"Bearer {api_key.get_secret_value()}",
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
                "User-Agent": USER_AGENT,
            },
        ).prepare()
        with requests.Session() as session:
            self._environment: Any = session.merge_environment_settings(self._template.url, {}, None, None, None)
        # The template's Content-Length is that of an empty body. urllib3 adds each body's own.
        self._headers = {name: text for name, text in self._template.headers.items() if name != "Content-Length"}
        self._route: tuple[Any, str] | None = None
        self._route_lock = threading.Lock()

    def post(self, body: bytes) -> HttpResponse | NoResponse:
        """Send one request body. Never raises because of the network or the server."""
        began_s = time.monotonic()
        exchange = self._exchanges.begin(self._total_s)
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
            content = self._read(response)
            if doubt := exchange.doubt(response.status):
                return NoResponse(InvalidResponse(doubt), True, _since_ms(began_s))
            headers = {name.lower(): self.redact(value) for name, value in response.headers.items()}
            return HttpResponse(response.status, headers, content, _since_ms(began_s))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            fault = translate(error, has_begun=response is not None)
            return NoResponse(fault, exchange.has_sent, _since_ms(began_s))
        finally:
            if response is not None:
                # Closes the connection if the response was not read to its end. Otherwise, it is in the pool already.
                response.close()
                response.release_conn()

    def close(self) -> None:
        self._adapter.close()

    def _find_route(self) -> tuple[Any, str]:
        """Return the connection pool that requests chooses for this URL, and the URL in the form that the pool expects.

        This is done once. With a lookup and a response object of requests for every call, a call costs 50% more.
        """
        # The first calls start together, and only one may do this: a checked class cannot be checked again.
        with self._route_lock:
            if self._route is None:
                verify, cert, proxies = (self._environment[name] for name in ("verify", "cert", "proxies"))
                pool: Any = self._adapter.get_connection_with_tls_context(self._template, verify, proxies, cert)
                self._adapter.cert_verify(pool, self._template.url, verify, cert)  # type: ignore[no-untyped-call]
                pool.ConnectionCls = checked(pool.ConnectionCls, self._exchanges)
                self._route = pool, self._adapter.request_url(self._template, proxies)
            return self._route

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        """Return the body. It is read as it arrives, so that an endless response takes no memory."""
        chunks: list[bytes] = []
        size = 0
        while chunk := response.read1(_CHUNK, decode_content=True):
            size += len(chunk)
            if size > self._max_bytes:
                raise _TooLarge(f"the response is larger than {self._max_bytes:,} bytes (MIRA_MAX_RESPONSE_BYTES)")
            chunks.append(chunk)
        return b"".join(chunks)


class _TooLarge(urllib3.exceptions.HTTPError):
    """The response exceeds MIRA_MAX_RESPONSE_BYTES."""


_Row = tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], str]

# The first row that matches applies: exceptions, fault, and message (empty for the exception's own message).
_ALWAYS: tuple[_Row, ...] = (((OutOfStep, _TooLarge), InvalidResponse, ""),)
_TABLE: tuple[_Row, ...] = (
    *_ALWAYS,
    (urllib3.exceptions.ProxyError, Unreachable, "the proxy of the environment cannot be used"),
    (urllib3.exceptions.SSLError, Unreachable, "no trusted TLS connection"),
    (urllib3.exceptions.NewConnectionError, Unreachable, "no connection: refused, or the host is unknown"),
    (urllib3.exceptions.ConnectTimeoutError, Unreachable, "no connection in time (MIRA_CONNECT_TIMEOUT)"),
    (urllib3.exceptions.ReadTimeoutError, Unreachable, "no response in time (MIRA_REQUEST_TIMEOUT)"),
    (urllib3.exceptions.ProtocolError, Unreachable, "the connection broke"),
    ((urllib3.exceptions.HTTPError, OSError, ValueError), Unreachable, "the call failed"),
)
# The table for a response that had begun.
_TABLE_AFTER_HEADERS: tuple[_Row, ...] = (
    *_ALWAYS,
    (
        urllib3.exceptions.ReadTimeoutError,
        InvalidResponse,
        "the response was not complete in time (MIRA_REQUEST_TIMEOUT)",
    ),
    (
        (urllib3.exceptions.HTTPError, OSError, ValueError),
        InvalidResponse,
        "the response broke off or cannot be decoded",
    ),
)


def translate(error: Exception, *, has_begun: bool = False) -> ServiceFault:
    """Return the fault for an exception of the transport, which is its cause.

    `has_begun` is True if the status and the headers of a response had arrived.
    """
    for kinds, fault, message in _TABLE_AFTER_HEADERS if has_begun else _TABLE:
        if isinstance(error, kinds):
            found = fault(message or str(error))
            found.__cause__ = error
            return found
    raise error


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
