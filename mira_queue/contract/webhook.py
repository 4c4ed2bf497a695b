"""Webhooks: events, the endpoints that receive them, and the URLs that may be called. Values only."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any, Self
from urllib.parse import urlsplit

import orjson
from pydantic import SecretStr

from mira_queue.contract.known_fields import known_fields
from mira_queue.contract.outcome import Failure, Outcome

# The types of OpenAI's events that can happen here. An SDK decodes a type that it does not know into the wrong class.
EVENT_TYPES = tuple(
    f"{kind}.{ending}"
    for kind, endings in (
        ("batch", ("completed", "failed", "expired", "cancelled")),
        ("response", ("completed", "failed", "cancelled", "incomplete")),
    )
    for ending in endings
)
# Reasons of the chat API after which an answer is incomplete, and their names in OpenAI's responses.
INCOMPLETE_REASONS = {"length": "max_output_tokens", "content_filter": "content_filter"}

# Value of a job that has no webhook of its own: only the endpoints of its project receive its events.
ENDPOINTS_ONLY = "-"
# A rotated secret stays valid for so long.
OVERLAP = timedelta(hours=24)
MAX_SECRETS = 3
MAX_URL = 2048
ENDPOINT_PREFIX, SECRET_PREFIX = "we_", "whsec_"
_ENDPOINT_ID = re.compile(r"we_[0-9a-f]{24}")
_SECRET_BYTES = (24, 64)
# Addresses that contain an IPv4 address which a translator on the way connects to.
_NAT64 = IPv6Network("64:ff9b::/96")
# Local translators, and IPv4-compatible addresses: deprecated, but some systems connect to the IPv4 address.
_NEVER_PUBLIC = (IPv6Network("64:ff9b:1::/48"), IPv6Network("::/96"))
# A resolver may read such a name as an IPv4 address: 127.1, 2130706433, 0177.0.0.1, 0x7f.1.
_NUMERIC_HOST = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?")


def ending_of(outcome: Outcome) -> str:
    """Return the last part of the type of a job's event."""
    if isinstance(outcome, Failure):
        return "failed"
    return "incomplete" if outcome.finish_reason in INCOMPLETE_REASONS else "completed"


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """Event that has happened. Scripts write it when it happens.

    `subject` is the id of the job or the batch, and `kind` the kind of OpenAI's object behind which the job is.
    `webhook` is the job's or batch's own: a URL, the id of an endpoint, or ENDPOINTS_ONLY. `metadata` is JSON.
    """

    id: str
    type: str
    created_at: int
    subject: str
    project: str = ""
    webhook: str = ENDPOINTS_ONLY
    kind: str = ""
    code: str = ""
    metadata: str = ""

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        return cls(**known_fields(cls, orjson.loads(text)))

    def to_json(self) -> bytes:
        return orjson.dumps(self)


def new_event_id() -> str:
    return f"evt_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A secret, and the Unix time until which it signs; 0: until it is rotated."""

    value: SecretStr
    until: int = 0


@dataclass(frozen=True, slots=True)
class WebhookEndpoint:
    """Record of an endpoint. The newest secret is the first. Times are Unix seconds."""

    id: str
    project: str
    name: str
    url: str
    event_types: tuple[str, ...]
    created_at: int
    updated_at: int
    secrets: tuple[SigningSecret, ...] = field(default=(), repr=False)
    disabled: str = ""  # the reason; empty: it is enabled

    def wants(self, event: WebhookEvent) -> bool:
        return not self.disabled and (event.webhook == self.id or event.type in self.event_types)

    def rotated(self, now: int, *, keep_old: bool) -> Self:
        """Return the endpoint with a new secret. The old one signs for OVERLAP, too, or not any more.

        So does one that still signs from an earlier rotation: a client that lost the response rotates again.
        """
        last, *earlier = self.secrets
        old = [replace(last, until=now + int(OVERLAP.total_seconds())), *(each for each in earlier if now < each.until)]
        kept = old[: MAX_SECRETS - 1] if keep_old else []
        return replace(self, secrets=(SigningSecret(new_signing_secret()), *kept), updated_at=now)

    def signing_secrets(self, now: int) -> list[SecretStr]:
        return [each.value for each in self.secrets if not each.until or now < each.until]

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        found = known_fields(cls, orjson.loads(text))
        found["event_types"] = tuple(found["event_types"])
        found["secrets"] = tuple(SigningSecret(SecretStr(value), until) for value, until in found["secrets"])
        return cls(**found)

    def to_json(self) -> bytes:
        """Return the record, which contains the secrets: they have to sign."""
        held = [(each.value.get_secret_value(), each.until) for each in self.secrets]
        return orjson.dumps({**asdict(replace(self, secrets=())), "secrets": held})


def endpoint_id_of(identity: str) -> str:
    """Return the id of the endpoint that a request with this identity creates."""
    return ENDPOINT_PREFIX + digest_of_identity(identity)


def digest_of_identity(identity: str) -> str:
    """Return a short digest of the identity of a request, which the ids of some objects contain."""
    return hashlib.sha256(identity.encode()).hexdigest()[:24]


def new_signing_secret() -> SecretStr:
    return SecretStr(SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode())


def checked_secret(text: str) -> SecretStr:
    """Return a signing secret. Raises ValueError, which does not quote it."""
    try:
        size = len(base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True))
    except ValueError:
        size = 0
    if not text.startswith(SECRET_PREFIX) or not _SECRET_BYTES[0] <= size <= _SECRET_BYTES[1]:
        raise ValueError("expected whsec_ and 24 to 64 bytes in base64, such as: echo whsec_$(openssl rand -base64 32)")
    return SecretStr(text)


def is_endpoint_id(text: str) -> bool:
    return _ENDPOINT_ID.fullmatch(text) is not None


def checked_url(text: str, private_hosts: Collection[str]) -> str:
    """Return the URL of a receiver. `private_hosts` may have private addresses, and plain HTTP. Raises ValueError.

    The name is not resolved here: its addresses are checked before each attempt.
    """
    try:
        parts = urlsplit(text)
        host = (parts.hostname or "").lower()
        _ = parts.port
    except ValueError:
        raise ValueError("expected a URL such as https://example.com/webhooks") from None
    if len(text) > MAX_URL or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError(f"expected at most {MAX_URL:,} ASCII characters without spaces")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("expected a URL such as https://example.com/webhooks")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise ValueError("expected no user, password, or fragment")
    if is_allowed_host(host, private_hosts):
        return text
    if parts.scheme != "https":
        raise ValueError(f"expected https://, unless MIRA_WEBHOOK_HOSTS has {host[:80]}")
    if (address := _address(host)) is None and _NUMERIC_HOST.fullmatch(host):
        raise ValueError(f"expected a name, or an address such as 192.0.2.1, got {host[:80]}")
    if address is not None and not is_public(address):
        raise ValueError(f"{host[:80]} is not a public address: add it to MIRA_WEBHOOK_HOSTS")
    return text


def is_allowed_host(host: str, private_hosts: Collection[str]) -> bool:
    """Return True if the operator allows this host, whatever its addresses are."""
    return host.lower() in private_hosts or "*" in private_hosts


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Return False for addresses of this machine, of private networks, and of no single machine."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
        if address.is_site_local or any(address in network for network in _NEVER_PUBLIC):
            return False
    return address.is_global and not address.is_multicast


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def payload_of(event: WebhookEvent, object_id: str) -> bytes:
    """Return the body of a delivery. Attempts of the same delivery send the same bytes."""
    own: dict[str, Any] = {"id": event.subject, "code": event.code or None}
    metadata: Mapping[str, str] = orjson.loads(event.metadata) if event.metadata else {}
    body = {
        "id": event.id,
        "object": "event",
        "type": event.type,
        "created_at": event.created_at,
        "data": {"id": object_id, "metadata": metadata, "mira": own},
    }
    text = orjson.dumps(body)
    if len(text) > MAX_PAYLOAD_BYTES:
        # The receiver finds them in the object.
        text = orjson.dumps({**body, "data": {"id": object_id, "mira": own}})
    return text


# Standard Webhooks recommends less than 20 kB.
MAX_PAYLOAD_BYTES = 20_000


def endpoints_of(event: WebhookEvent, endpoints: Sequence[WebhookEndpoint]) -> list[WebhookEndpoint]:
    """Return the endpoints of the event's project that receive it."""
    return [each for each in endpoints if each.wants(event)]
