"""One POST to the API and its response, as values. The only file that knows `requests`."""

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
    """Where a call goes: the client below, or a function of a test's.

    `redact` replaces the key in a text that goes into an error or a log.
    """

    def post(self, body: bytes) -> HttpAnswer | NoAnswer: ...

    def redact(self, text: str) -> str: ...


class MiraClient:
    """Pooled keep-alive connections to `{api_base}/chat/completions`, safe to share between threads.

    Certificates are verified, and the environment's proxies honored (both looked up once). Redirects are never followed
    (they would carry the key elsewhere). Cookies are never kept. Responses are bounded in size and in total time, and
    belong to their request (`mira_worker.exchange`).
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
        self.redact = Redaction(api_key.get_secret_value())
        self._exchanges = Exchanges()
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
                return NoAnswer(InvalidResponse(doubt), True, _since_ms(began_s))
            headers = {name.lower(): self.redact(value) for name, value in response.headers.items()}
            return HttpAnswer(response.status, headers, content, _since_ms(began_s))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            fault = translate(error, has_begun=response is not None)
            return NoAnswer(fault, exchange.has_sent, _since_ms(began_s))
        finally:
            if response is not None:
                # A response that was not read to its end closes its connection. Else that is in the pool already.
                response.close()
                response.release_conn()

    def close(self) -> None:
        self._adapter.close()

    def _find_route(self) -> tuple[Any, str]:
        """The pool that requests chooses, and makes safe, for this URL; and what it asks there.

        Once: asked for with every call, and with an answer of requests' own around it (cookies, redirects, hooks, which
        we do not want), a call costs half as much again.
        """
        # Of the first calls, which start together, only one does this: a checked class cannot be checked again.
        with self._finding:
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
    """The response exceeds a bound of ours."""


_Row = tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], str]

# The first row that fits applies: what happened, the fault that it is, and its message (empty: the error's own).
_ALWAYS: tuple[_Row, ...] = (((OutOfStep, _TooLarge), InvalidResponse, ""),)
_TABLE: tuple[_Row, ...] = (
    *_ALWAYS,
    (urllib3.exceptions.ProxyError, Unreachable, "the proxy of the environment cannot be used"),
    (urllib3.exceptions.SSLError, Unreachable, "no trusted TLS connection"),
    (urllib3.exceptions.NewConnectionError, Unreachable, "no connection: refused, or the host is unknown"),
    (urllib3.exceptions.ConnectTimeoutError, Unreachable, "no connection in time (MIRA_CONNECT_TIMEOUT)"),
    (urllib3.exceptions.ReadTimeoutError, Unreachable, "no answer in time (MIRA_REQUEST_TIMEOUT)"),
    (urllib3.exceptions.ProtocolError, Unreachable, "the connection broke"),
    ((urllib3.exceptions.HTTPError, OSError, ValueError), Unreachable, "the call failed"),
)
# The same, when a response had begun.
_TABLE_OF_THE_BEGUN: tuple[_Row, ...] = (
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
    """Return the fault that an exception of the transport is, with the exception as its cause.

    `has_begun`: the status and headers of a response had arrived.
    """
    for kinds, fault, message in _TABLE_OF_THE_BEGUN if has_begun else _TABLE:
        if isinstance(error, kinds):
            found = fault(message or str(error))
            found.__cause__ = error
            return found
    raise error


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
