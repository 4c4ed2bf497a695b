"""URL of the queue's server: split in one place into what the Redis client and Celery need.

redis://[user:password@]host[:port][/db]                              one server
rediss://...                                                          one server, with TLS
redis+socket:///path/to.sock[?db=0]                                   one server, over its socket
redis+sentinel://[user:password@]host:port[,host:port]/service[/db]   the master that these Sentinels name
rediss+sentinel://...                                                 the same, with TLS to servers and Sentinels
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

SOCKET = "redis+socket"
SENTINEL_SCHEMES = ("redis+sentinel", "rediss+sentinel")
TLS_SCHEMES = ("rediss", "rediss+sentinel")
SCHEMES = ("redis", "rediss", SOCKET, *SENTINEL_SCHEMES)

SERVER_PORT = 6379
SENTINEL_PORT = 26379

# Celery's spelling and that of the Redis client.
CERT_REQS = {
    spelling: name
    for name in ("required", "optional", "none")
    for spelling in (name, f"CERT_{name.upper()}", f"cert_{name}")
}
_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_PARAMETERS = ("ssl_cert_reqs", "ssl_check_hostname", *_TLS_FILES)
_SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password")
_DB_PARAMETERS = ("db", "virtual_host")

_SENTINELS = re.compile(r"(rediss?\+sentinel://)([^/?#]*)(.*)", re.DOTALL | re.IGNORECASE)

# No part of the URL is in a message: any part can belong to a password that is not encoded.
_FORMS = (
    "redis://host:6379/0, rediss://host:6380/0, redis+socket:///path/to.sock or redis+sentinel://host:26379/service/0"
)
_NOT_ENCODED = (
    "not a valid URL: percent-encode the password (# is %23, / is %2F, ? is %3F, @ is %40, : is %3A, % is %25), "
    f"and compare it with {_FORMS} (the value is not shown)"
)


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """Parts of a URL. `hosts` are those of the Sentinels if there is a `service`. `tls` is None without TLS."""

    hosts: tuple[tuple[str, int], ...] = ()
    socket: str = ""
    service: str = ""
    db: int = 0
    login: Mapping[str, str] = field(default_factory=dict, repr=False)
    sentinel_login: Mapping[str, str] = field(default_factory=dict, repr=False)
    tls: Mapping[str, Any] | None = None

    def with_scheme(self, scheme: str, host: tuple[str, int]) -> str:
        """Return a URL of one of the hosts, with the login and the database."""
        name, port = host
        user, password = (quote(self.login.get(part, ""), safe="") for part in ("username", "password"))
        login = f"{user}:{password}@" if user or password else ""
        return f"{scheme}://{login}{f'[{name}]' if ':' in name else name}:{port}/{self.db}"


def parse_server_url(url: str) -> ServerUrl:
    """Split a URL. Raises ValueError, whose message contains no part of the URL."""
    try:
        parts = _split(url)
        parts_are_known = parts.scheme in SCHEMES
    except ValueError:
        raise ValueError(_NOT_ENCODED) from None
    if not parts_are_known:
        raise ValueError(f"expected {_FORMS}")
    if parts.scheme == SOCKET:
        return _socket(parts)
    _check_encoding(parts)
    query = _parameters(parts)
    is_sentinel = parts.scheme in SENTINEL_SCHEMES
    service, db = _service(parts) if is_sentinel else ("", parts.path.strip("/"))
    return ServerUrl(
        hosts=_hosts(parts, SENTINEL_PORT if is_sentinel else SERVER_PORT, many=is_sentinel),
        service=service,
        db=_database(next((query[name] for name in _DB_PARAMETERS if name in query), db)),
        login=_login(parts.netloc),
        sentinel_login={
            name.removeprefix("sentinel_"): query[name] for name in _SENTINEL_PARAMETERS if query.get(name)
        },
        tls=_tls(query) if parts.scheme in TLS_SCHEMES else None,
    )


def _split(url: str) -> SplitResult:
    sentinels = _SENTINELS.fullmatch(url)
    if sentinels is None:
        return urlsplit(url)
    # Newer releases of Python reject an IPv6 address in a list of hosts. Each host is split alone.
    return urlsplit(sentinels[1] + sentinels[3])._replace(netloc=sentinels[2])


def _socket(parts: SplitResult) -> ServerUrl:
    if not parts.path:
        raise ValueError("expected the path of the socket: redis+socket:///path/to.sock")
    query = _parameters(parts)
    db = next((query[name] for name in _DB_PARAMETERS if name in query), "")
    return ServerUrl(socket=unquote(parts.path), db=_database(db), login=_login(parts.netloc))


def _check_encoding(parts: SplitResult) -> None:
    in_query = "@" in parts.query and "@" not in parts.netloc
    if parts.fragment or "@" in parts.path or in_query:
        raise ValueError(_NOT_ENCODED)


def _parameters(parts: SplitResult) -> dict[str, str]:
    """Return the parameters of the query. An unknown one is rejected: Celery and the Redis client would fail."""
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    known = set(_DB_PARAMETERS)
    if parts.scheme in TLS_SCHEMES:
        known.update(_TLS_PARAMETERS)
    if parts.scheme in SENTINEL_SCHEMES:
        known.update(_SENTINEL_PARAMETERS)
    if found.keys() - known:
        raise ValueError(f"unknown parameter after the ?; possible with this scheme: {', '.join(sorted(known))}")
    return found


def _hosts(parts: SplitResult, default_port: int, *, many: bool) -> tuple[tuple[str, int], ...]:
    texts = parts.netloc.rpartition("@")[2].split(",")
    if len(texts) > 1 and not many:
        raise ValueError(f"expected one host; for Sentinel: {_FORMS}")
    return tuple(_host(text, default_port) for text in texts)


def _host(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        return unquote(parts.hostname or "localhost"), parts.port or default_port
    except ValueError:
        # The library's message quotes the text, which is the end of a password that is not encoded.
        raise ValueError(_NOT_ENCODED) from None


def _service(parts: SplitResult) -> tuple[str, str]:
    service, _, db = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("expected the name of the Sentinels' service: redis+sentinel://host:26379/service/0")
    return unquote(service), db


def _database(text: str) -> int:
    if text and not re.fullmatch(r"\d{1,5}", text, re.ASCII):
        raise ValueError("expected the number of a database at the end, such as /0")
    return int(text or 0)


def _login(netloc: str) -> dict[str, str]:
    user, _, password = netloc.rpartition("@")[0].partition(":")
    parts = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in parts.items() if value}


def _tls(query: Mapping[str, str]) -> dict[str, Any]:
    """Return the client's options. The server's certificate is checked, unless the URL says otherwise."""
    reqs = CERT_REQS.get(query.get("ssl_cert_reqs", "required"))
    if reqs is None:
        raise ValueError("ssl_cert_reqs: expected required, optional or none (or Celery's CERT_REQUIRED, ...)")
    check = query.get("ssl_check_hostname", "true").lower()
    if check not in ("true", "false"):
        raise ValueError("ssl_check_hostname: expected true or false")
    files = {name: query[name] for name in _TLS_FILES if query.get(name)}
    return {"ssl_cert_reqs": reqs, "ssl_check_hostname": check == "true" and reqs != "none", **files}
