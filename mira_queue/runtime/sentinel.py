"""Connections to the Sentinels, which name the master. The ledger and Celery use the same options."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff
from redis.retry import Retry

from mira_queue.contract.server_url import ServerUrl

# Each new connection asks the Sentinels in turn. A machine that is down must not delay it much.
TIMEOUT_S = 1.0


def sentinel_options(server: ServerUrl) -> dict[str, Any]:
    """Return the Redis client's options for its connections to the Sentinels."""
    return {
        **server.sentinel_login,
        **({"ssl": True, **server.tls} if server.tls else {}),
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        # The caller retries. The client's own retries would multiply with it.
        "retry": Retry(NoBackoff(), 0),
    }
