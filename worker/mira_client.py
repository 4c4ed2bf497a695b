"""One POST to the API and its answer, as values. The only file that knows `requests`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import requests
import urllib3
from pydantic import SecretStr
from requests.adapters import HTTPAdapter

from mira_queue.contract.errors import BrokenAnswer, ServiceFault, Unreachable

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
    """A pooled keep-alive connection to `{api_base}/chat/completions`, safe to share between threads.

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
        self._timeouts_s = (min(connect_timeout.total_seconds(), self._total_s), self._total_s)
        self._max_bytes = max_response_bytes
        self._secret = api_key.get_secret_value().encode()
        # Without a session around it: cookies, redirects and hooks, which we do not want, cost a third of a call.
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
            environment = session.merge_environment_settings(self._template.url, {}, None, None, None)
        self._environment: dict[str, Any] = {name: environment[name] for name in ("verify", "cert", "proxies")}

    def post(self, body: bytes) -> HttpAnswer | NoAnswer:
        """Send one request body. Never raises for what the network or the server does."""
        request = self._template.copy()
        request.body = body
        request.headers["Content-Length"] = str(len(body))
        began_s = time.monotonic()
        try:
            with self._adapter.send(request, stream=True, timeout=self._timeouts_s, **self._environment) as response:
                content = self._read(response, began_s)
                headers = {name.lower(): self._quoted(value) for name, value in response.headers.items()}
                return HttpAnswer(response.status_code, headers, self._without_key(content), _since_ms(began_s))
        except _TooLong as error:
            return NoAnswer(BrokenAnswer(str(error)), True, _since_ms(began_s))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            fault, may_be_billed = translate(error)
            return NoAnswer(fault, may_be_billed, _since_ms(began_s))

    def close(self) -> None:
        self._adapter.close()

    def _read(self, response: requests.Response, began_s: float) -> bytes:
        """The body. Read as it comes, so that neither an endless nor a dripping answer holds the worker."""
        chunks: list[bytes] = []
        size = 0
        while chunk := response.raw.read1(_CHUNK, decode_content=True):
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


class _TooLong(Exception):
    """The answer passed a bound of ours."""


# The first row that fits holds. (what happened, the fault it is, its words, may the call have been billed)
_TABLE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], type[ServiceFault], str, bool], ...] = (
    (requests.exceptions.ProxyError, Unreachable, "the proxy of the environment cannot be used", False),
    (requests.exceptions.SSLError, Unreachable, "no trusted TLS connection", False),
    (requests.exceptions.ConnectTimeout, Unreachable, "no connection in time (MIRA_CONNECT_TIMEOUT)", False),
    (requests.exceptions.ReadTimeout, Unreachable, "no answer in time (MIRA_REQUEST_TIMEOUT)", True),
    (urllib3.exceptions.ReadTimeoutError, BrokenAnswer, "the answer stopped half way (MIRA_REQUEST_TIMEOUT)", True),
    (
        (
            requests.exceptions.ChunkedEncodingError,
            requests.exceptions.ContentDecodingError,
            urllib3.exceptions.ProtocolError,
            urllib3.exceptions.IncompleteRead,
            urllib3.exceptions.InvalidChunkLength,
            urllib3.exceptions.DecodeError,
        ),
        BrokenAnswer,
        "the answer broke off or cannot be decoded",
        True,
    ),
    (requests.exceptions.ConnectionError, Unreachable, "the connection broke", True),
    (
        (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError),
        Unreachable,
        "the call failed",
        True,
    ),
)


def translate(error: Exception) -> tuple[ServiceFault, bool]:
    """The fault that an exception of the transport is, its cause kept, and whether the call may have been billed."""
    for kinds, fault, words, may_be_billed in _TABLE:
        if isinstance(error, kinds):
            refused = _never_connected(error)
            found = fault("no connection: refused, or the host is unknown" if refused else words)
            found.__cause__ = error
            return found, may_be_billed and not refused
    raise error


def _never_connected(error: BaseException) -> bool:
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return isinstance(reason, urllib3.exceptions.NewConnectionError)


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
