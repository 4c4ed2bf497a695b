"""One request to the API without the key, and what its response says about the base URL. It cannot be billed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import certifi
import urllib3
from urllib3.util import make_headers

from mira_queue.contract.endpoint import COMPLETIONS_PATH, completions_url
from mira_queue.runtime.network_path import NetworkPath

TIMEOUT_S = 5.0
_MAX_BODY_BYTES = 4096
# Without messages, no server has anything to answer.
_EMPTY_REQUEST = b"{}"
_HEADERS = {"User-Agent": "mira-queue doctor", "Accept": "application/json"}


class Kind(Enum):
    """Kind of a base, by its response to an empty request without a key."""

    API = "an API that rejects it"
    DOWN = "a server fault"
    NO_ENDPOINT = "no such path or method"
    FORBIDDEN = "forbidden"
    ELSEWHERE = "a redirect"
    WEB_PAGE = "a web page"
    OTHER = "accepted"


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, headers (names in lower case), and the beginning of the body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def judge(reply: Reply) -> Kind:
    """Return what the response to an empty request without a key says about the base. Pure."""
    if reply.status >= 500:
        return Kind.DOWN
    if 300 <= reply.status < 400:
        return Kind.ELSEWHERE
    is_page = "html" in reply.headers.get("content-type", "").lower() or reply.body.lstrip()[:1] == b"<"
    if reply.status in (404, 405, 410):
        return Kind.NO_ENDPOINT
    if is_page:
        return Kind.WEB_PAGE
    if reply.status == 403:
        return Kind.FORBIDDEN
    return Kind.OTHER if reply.status < 300 else Kind.API


def candidates(base: str) -> list[str]:
    """Return bases that a user may have meant: with `/v1`, or without a part that is appended to it. Pure."""
    parts = urlsplit(base)
    segments = [each for each in parts.path.split("/") if each]
    root = [] if "v1" not in segments else segments[: segments.index("v1")]
    paths = [[*segments, "v1"], [*root, "v1"], ["v1"], ["api", "v1"]]
    found = [urlunsplit(parts._replace(path="".join(f"/{each}" for each in path))) for path in paths]
    return [each for each in dict.fromkeys(found) if each != base]


class Probe:
    """Connections on the path of a worker: the environment's proxy and its CA certificates."""

    def __init__(self, path: NetworkPath) -> None:
        certificates = {"ca_cert_dir" if os.path.isdir(path.ca) else "ca_certs": path.ca or certifi.where()}
        self._pools = _pools(path.proxy, certificates)

    def completions(self, base: str) -> Reply:
        """Send an empty request to the chat completions of a base. Raises urllib3's HTTPError."""
        return self._request("POST", completions_url(base), _EMPTY_REQUEST, "application/json")

    def has_models(self, base: str) -> bool:
        """Return True if the base lists models, or wants a key for it."""
        url = completions_url(base).replace(COMPLETIONS_PATH, "/models", 1)
        reply = self._request("GET", url)
        return reply.status == 401 or (reply.status == 200 and judge(reply) is Kind.OTHER)

    def close(self) -> None:
        self._pools.clear()

    def _request(self, method: str, url: str, body: bytes | None = None, content_type: str = "") -> Reply:
        response = self._pools.request(
            method,
            url,
            body=body,
            headers=_HEADERS | ({"Content-Type": content_type} if content_type else {}),
            timeout=TIMEOUT_S,
            retries=False,
            redirect=False,
            preload_content=False,
        )
        try:
            return Reply(
                response.status,
                {name.lower(): text for name, text in response.headers.items()},
                response.read(_MAX_BODY_BYTES, decode_content=True),
            )
        finally:
            response.close()


def _pools(proxy: str, certificates: Mapping[str, str]) -> urllib3.PoolManager:
    options: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", **certificates}
    if not proxy:
        return urllib3.PoolManager(**options)
    parts = urlsplit(proxy)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if parts.scheme.startswith("socks"):
        # Here, because it needs PySocks, which is an extra. `network_path` has checked that it is installed.
        from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415

        return SOCKSProxyManager(proxy, user or None, password or None, **options)
    headers = make_headers(proxy_basic_auth=f"{user}:{password}") if user else {}
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)
