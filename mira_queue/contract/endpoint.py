"""Address of an API, and the headers of its calls. Pure: text in, text out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit, urlunsplit

import orjson
from pydantic import SecretStr

COMPLETIONS_PATH = "/chat/completions"
# With this header, the key is a bearer token. With any other, the header's value is the key alone.
AUTHORIZATION = "Authorization"
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# Headers that frame the request, or that say what we send and can read.
_OWN_HEADERS = frozenset(
    """accept accept-encoding connection content-encoding content-length content-type expect host keep-alive
    proxy-authorization te trailer transfer-encoding upgrade
    """.split()  # noqa: SIM905
)
# The base is printed and stored. A secret in its query would be, too.
_SECRET_PARAMETER = re.compile(r"key|token|secret|pass|pwd|auth|sig|cred", re.IGNORECASE)


def checked_base(value: str) -> str:
    """Return a base URL in its one form: without a final slash, and without `/chat/completions`, which is appended.

    A query, such as `?api-version=2024-10-21`, stays at its end. Raises ValueError.
    """
    parts = _split(value.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL such as https://api.vmira.ai/v1")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("expected no user, password or fragment; the key belongs in MIRA_API_KEY")
    if any(char.isspace() or not char.isprintable() for char in parts.path + parts.query):
        raise ValueError("expected no spaces (write %20)")
    secret = next((name for name, _ in parse_qsl(parts.query, True) if _SECRET_PARAMETER.search(name)), "")
    if secret:
        raise ValueError(f"expected no secret in the query ({secret[:40]}); send it as a header (MIRA_HEADERS)")
    path = parts.path.rstrip("/")
    while path.endswith(COMPLETIONS_PATH):
        path = path.removesuffix(COMPLETIONS_PATH).rstrip("/")
    return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))


def completions_url(base: str) -> str:
    """Return the URL of chat completions: the path is appended before the query of the base."""
    parts = urlsplit(base)
    return urlunsplit(parts._replace(path=f"{parts.path}{COMPLETIONS_PATH}"))


def _split(value: str) -> SplitResult:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise ValueError("expected a URL such as https://api.vmira.ai/v1, with a port of digits, if any") from None
    return parts


def checked_header_name(name: str) -> str:
    """Return the name of a header that a setting may send. Raises ValueError."""
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"expected the name of a header, such as api-key, got {name[:40]!r}")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"{name} is set by mira-queue")
    return name


def checked_headers(given: Mapping[str, SecretStr], key_header: str) -> Mapping[str, SecretStr]:
    """Return additional headers. Raises ValueError, whose message has the name of the header and never its value."""
    seen = {key_header.lower(): "it carries MIRA_API_KEY"}
    for name, value in given.items():
        checked_header_name(name)
        text = value.get_secret_value()
        if not text.isascii() or not text.isprintable() or text != text.strip():
            raise ValueError(f"{name}: expected printable ASCII without surrounding spaces (the value is not shown)")
        if found := seen.get(name.lower()):
            raise ValueError(f"{name}: {found}")
        seen[name.lower()] = "given twice"
    return given


def parse_headers(value: object) -> object:
    """Return the headers of a setting, written as a JSON object. Raises ValueError."""
    if not isinstance(value, str):
        return value
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ValueError('expected a JSON object, such as {"X-Team": "search"} (the value is not shown)')
    return found


def request_headers(key: SecretStr, key_header: str, additional: Mapping[str, SecretStr]) -> dict[str, str]:
    """Return the headers that carry the key and those of the settings."""
    secret = key.get_secret_value()
    carried = f"Bearer {secret}" if key_header.lower() == AUTHORIZATION.lower() else secret
    return {**{name: text.get_secret_value() for name, text in additional.items()}, key_header: carried}
