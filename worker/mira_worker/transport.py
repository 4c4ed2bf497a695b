"""One POST to the API and its response, as values. Only this file uses `requests`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from mira_queue.contract.endpoint import AUTHORIZATION, completions_url, request_headers
from mira_queue.contract.errors import InvalidResponse, ServiceFault
from mira_queue.runtime.network_path import network_path
from mira_worker.event_stream import has_end, is_event_stream
from mira_worker.exchange import Exchange, Exchanges, checked
from mira_worker.redaction import Redaction
from mira_worker.transport_errors import TooLarge, translate

USER_AGENT = "mira-queue/0.1"
_CHUNK = 64 * 1024
# A line break, the end marker of a stream with spaces, and a line break.
_MARKER_BYTES = 64
# The wait for the end of a response after the end marker of its stream, and the chunks that may follow.
_REST_S, _MAX_REST_CHUNKS = 0.1, 3


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete response: status, headers (names in lower case), body, and the time that it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    latency_ms: int


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No complete response. `may_be_billed` is True if the request had been sent.

    `begun` is the part that has arrived: the status and the headers, and the beginning of the body.
    """

    error: ServiceFault
    may_be_billed: bool
    latency_ms: int = field(default=0)
    begun: HttpResponse | None = None


OnStream = Callable[[bytes], None]


class Transport(Protocol):
    """Sends calls: the client below, or a test's. `redact` replaces the key in texts of errors and logs."""

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse | NoResponse: ...

    def redact(self, text: str) -> str: ...


class MiraClient:
    """Pooled keep-alive connections to the chat completions of a base, safe to share between threads.

    Certificates are verified, and the environment's proxies are honored (both are looked up once, and SettingsError is
    raised if they cannot be used). Redirects are never
    followed, because they would send the key elsewhere. Cookies are never stored. Responses are bounded in size and in
    total time, and belong to their request (`mira_worker.exchange`).
    """

    def __init__(
        self,
        api_base: str,
        api_key: SecretStr,
        headers: Mapping[str, SecretStr] | None = None,
        *,
        key_header: str = AUTHORIZATION,
        connect_timeout: timedelta,
        total_timeout: timedelta,
        max_response_bytes: int,
        connections: int,
    ) -> None:
        self._total_s = total_timeout.total_seconds()
        self._timeout = urllib3.Timeout(connect=min(connect_timeout.total_seconds(), self._total_s), read=self._total_s)
        self._max_bytes = max_response_bytes
        headers = headers or {}
        self.redact = Redaction(api_key.get_secret_value(), *(text.get_secret_value() for text in headers.values()))
        self._exchanges = Exchanges()
        self._adapter = HTTPAdapter(pool_connections=4, pool_maxsize=connections, max_retries=0)
        # Prepared without a session, which would replace the key by a password from ~/.netrc.
        self._template = requests.Request(
            "POST",
            completions_url(api_base),
            headers={
                "User-Agent": USER_AGENT,
                **request_headers(api_key, key_header, headers),
                "Content-Type": "application/json",
                "Accept": "application/json, text/event-stream",
            },
        ).prepare()
        self._path = network_path(api_base)
        via = f" through {self._path.shown_proxy}" if self._path.proxy else ""
        self._where = f"{urlsplit(api_base).netloc}{via}"
        # The template's Content-Length is that of an empty body. urllib3 adds each body's own.
        self._headers = {name: text for name, text in self._template.headers.items() if name != "Content-Length"}
        self._route: tuple[Any, str] | None = None
        self._route_lock = threading.Lock()

    def post(self, body: bytes, on_stream: OnStream | None = None) -> HttpResponse | NoResponse:
        """Send one request body. Never raises because of the network or the server.

        `on_stream` gets the pieces of a streamed answer as they arrive.
        """
        began_s = time.monotonic()
        exchange = self._exchanges.begin(self._total_s)
        response: urllib3.BaseHTTPResponse | None = None
        content = bytearray()
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
            self._read(response, content, exchange, on_stream)
            if doubt := exchange.doubt(response.status):
                return NoResponse(InvalidResponse(doubt), True, _since_ms(began_s))
            return self._arrived(response, content, began_s)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            fault = translate(error, has_begun=response is not None, where=self._where)
            begun = None if response is None else self._arrived(response, content, began_s)
            return NoResponse(fault, exchange.has_sent, _since_ms(began_s), begun)
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
                verify = self._path.ca or True
                proxies = {"all": self._path.proxy} if self._path.proxy else {}
                pool: Any = self._adapter.get_connection_with_tls_context(self._template, verify, proxies)
                self._adapter.cert_verify(pool, self._template.url, verify, None)  # type: ignore[no-untyped-call]
                pool.ConnectionCls = checked(pool.ConnectionCls, self._exchanges)
                self._route = pool, self._adapter.request_url(self._template, proxies)
            return self._route

    def _arrived(self, response: urllib3.BaseHTTPResponse, content: bytearray, began_s: float) -> HttpResponse:
        headers = {name.lower(): self.redact(value) for name, value in response.headers.items()}
        return HttpResponse(response.status, headers, bytes(content), _since_ms(began_s))

    def _read(
        self,
        response: urllib3.BaseHTTPResponse,
        content: bytearray,
        exchange: Exchange,
        on_stream: OnStream | None,
    ) -> None:
        """Add the body to `content` as it arrives, so that an endless response takes no memory.

        A stream ends at its end marker. Some servers keep the connection open after it.
        """
        is_stream = None
        while chunk := response.read1(_CHUNK, decode_content=True):
            if len(content) + len(chunk) > self._max_bytes:
                raise TooLarge(f"the response is larger than {self._max_bytes:,} bytes (MIRA_MAX_RESPONSE_BYTES)")
            content += chunk
            if is_stream is None:
                is_stream = is_event_stream(response.headers.get("content-type", ""), bytes(content[:100]))
            if is_stream and on_stream is not None and response.status == HTTPStatus.OK:
                on_stream(chunk)
            # The marker may be split between two chunks.
            if is_stream and has_end(bytes(content[-len(chunk) - _MARKER_BYTES :])):
                self._finish(response, exchange)
                return

    def _finish(self, response: urllib3.BaseHTTPResponse, exchange: Exchange) -> None:
        """Read the rest of a stream whose end marker has arrived, so that its connection can be reused.

        If the rest does not come soon, the connection is closed.
        """
        exchange.end_within(_REST_S)
        with suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
            for _ in range(_MAX_REST_CHUNKS):
                if not response.read1(_CHUNK, decode_content=True):
                    return


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
