"""Names of the running workers, which they report through the queue's server."""

from __future__ import annotations

from mira_queue.contract.settings import Settings
from mira_queue.runtime.celery_config import build_celery

# A worker responds immediately, or is too busy to be of use.
PATIENCE_S = 1.0


def alive_workers(settings: Settings, redis_url: str) -> list[str]:
    """Return the workers that respond to a ping within a second. If the server is unavailable, there are none."""
    with build_celery(settings, redis_url) as celery:
        try:
            answers = celery.control.ping(timeout=PATIENCE_S)
        # This is only for a hint. If the server is unavailable, the next step of the caller reports it.
        except Exception:  # noqa: BLE001
            return []
    return sorted(name for answer in answers for name in answer)
