"""Access control: which API key a request has, and what that key may do."""

from __future__ import annotations

import time
from collections.abc import Callable

from pydantic import SecretStr
from starlette.requests import Request

from mira_producer.gateway.http.errors import ApiError
from mira_producer.gateway.http.threads import in_thread
from mira_queue.contract.api_key import SIMULATED_KEY_PREFIX, ApiKey, Scope, digest_of

# A revoked key is accepted for at most this long. Every request would cost a round trip otherwise.
CACHE_S = 1.0
MAX_CACHED = 10_000


class Access:
    """The API keys, as this process has last read them. `lookup` reads the key of a digest from the ledger.

    `is_simulated` is True for a gateway on the simulator, which has keys of its own.
    """

    def __init__(self, lookup: Callable[[str], ApiKey | None], *, is_simulated: bool = False) -> None:
        self._lookup = lookup
        self._is_simulated = is_simulated
        self._cached: dict[str, tuple[ApiKey, float]] = {}

    async def caller(self, request: Request, scope: Scope) -> ApiKey:
        """Return the API key of a request. Raises ApiError if it has none, or if that does not include the scope."""
        secret = _secret_of(request)
        key = await self.known(digest_of(secret))
        if key is None:
            raise _unauthorized(self._why_unknown(secret.get_secret_value()))
        if not key.scope.includes(scope):
            raise ApiError(
                403, f"API key {key.id} has the scope {key.scope}: this needs {scope}", code="insufficient_scope"
            )
        return key

    async def known(self, digest: str) -> ApiKey | None:
        """Return the API key with this digest, or None if it never existed or was revoked."""
        key, until_s = self._cached.get(digest, (None, 0.0))
        if key is not None and time.monotonic() < until_s:
            return key
        key = await in_thread(self._lookup, digest)
        if key is None:
            self._cached.pop(digest, None)
            return None
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()
        self._cached[digest] = (key, time.monotonic() + CACHE_S)
        return key

    def _why_unknown(self, secret: str) -> str:
        of_simulated = secret.startswith(SIMULATED_KEY_PREFIX)
        if of_simulated and not self._is_simulated:
            return "this API key is for a gateway with --simulate: mira-queue keys create makes one for this gateway"
        if self._is_simulated and not of_simulated:
            return (
                "unknown or revoked API key: this gateway runs with --simulate and has keys of its own: "
                "mira-queue keys create --simulated makes one"
            )
        option = " --simulated" if self._is_simulated else ""
        return f"unknown or revoked API key: mira-queue keys create{option} makes one"


def _secret_of(request: Request) -> SecretStr:
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret.strip():
        raise _unauthorized("no API key: send it as Authorization: Bearer mq-...")
    return SecretStr(secret.strip())


def _unauthorized(message: str) -> ApiError:
    return ApiError(401, message, code="invalid_api_key", headers={"www-authenticate": "Bearer"})
