"""API keys of the gateway in the ledger: records by the digest of the key. And the secret of its web page."""

from __future__ import annotations

import secrets
from typing import Any

import orjson
from pydantic import SecretStr

from mira_queue.contract import names
from mira_queue.contract.api_key import ApiKey, Scope, digest_of
from mira_queue.contract.known_fields import known_fields
from mira_queue.ledger.script_runner import ScriptRunner


class ApiKeys(ScriptRunner):
    """Operations on API keys."""

    def add_api_key(self, secret: SecretStr, key: ApiKey) -> None:
        self._client.hset(names.API_KEYS, digest_of(secret), orjson.dumps(key))

    def add_first_api_key(self, secret: SecretStr, key: ApiKey) -> bool:
        """Store a key if there is none. Return False if there are keys."""
        return bool(self._run("api_keys/create_first", [names.API_KEYS], [digest_of(secret), orjson.dumps(key)]))

    def api_key(self, digest: str) -> ApiKey | None:
        """Return the key with this digest, or None if it never existed or was revoked."""
        found: Any = self._client.hget(names.API_KEYS, digest)
        return None if found is None else _key(found)

    def api_keys(self) -> list[ApiKey]:
        """Return all keys, the oldest first."""
        found: Any = self._client.hgetall(names.API_KEYS)
        return sorted(map(_key, found.values()), key=lambda key: (key.created_at, key.id))

    def revoke_api_keys(self, which: str) -> int:
        """Delete the key with this id, or all keys with this name. Return how many were deleted."""
        found: Any = self._client.hgetall(names.API_KEYS)
        revoked = [digest for digest, record in found.items() if which in (_key(record).id, _key(record).name)]
        return int(self._client.hdel(names.API_KEYS, *revoked)) if revoked else 0

    def page_secret(self) -> SecretStr:
        """Return the secret that signs the cookies of the web page. The first gateway creates it."""
        self._client.set(names.PAGE_SECRET, secrets.token_hex(32), nx=True)
        found: Any = self._client.get(names.PAGE_SECRET)
        return SecretStr(found.decode())


def _key(record: bytes) -> ApiKey:
    found = known_fields(ApiKey, orjson.loads(record))
    return ApiKey(**{**found, "scope": Scope(found["scope"])})
