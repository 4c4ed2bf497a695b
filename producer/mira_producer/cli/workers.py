"""Which workers of the queue are alive: asked of them, over the queue's server."""

from __future__ import annotations

from mira_queue.contract.settings import Settings
from mira_queue.runtime.celery_config import build_celery

# A worker answers at once, or is too busy to be of use.
PATIENCE_S = 1.0


def alive_workers(settings: Settings, redis_url: str) -> list[str]:
    """Names of the workers that answer a ping within a second; none when the server does not answer either."""
    with build_celery(settings, redis_url) as celery:
        try:
            answers = celery.control.ping(timeout=PATIENCE_S)
        # Asking is a courtesy: where the server is gone, whatever the caller does next says so, and says it better.
        except Exception:  # noqa: BLE001
            return []
    return sorted(name for answer in answers for name in answer)
