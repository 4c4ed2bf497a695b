"""Stock Celery as its documentation recommends: late acknowledgment, results in Redis, `requests.post` in the task.

Start the worker with `celery -A bench.bulk.peers.stock_app worker`.
"""

from __future__ import annotations

import os
from typing import Any

import requests
from celery import Celery

REDIS_URL = os.environ["PEER_REDIS_URL"]
API_BASE = os.environ["PEER_API_BASE"]
API_KEY = os.environ["PEER_API_KEY"]
# If set, calls share the connections of a session, as the documentation of requests recommends.
SESSION = requests.Session() if os.environ.get("PEER_SESSION") else None

app = Celery("stock", broker=REDIS_URL, backend=REDIS_URL)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    broker_connection_retry_on_startup=True,
    # Without it, every thread opens its own connections to the result backend.
    result_backend_thread_safe=True,
)


@app.task(name="stock.chat")  # type: ignore[untyped-decorator]
def chat(body: dict[str, Any]) -> Any:
    """One chat completion."""
    answer = (SESSION or requests).post(
        f"{API_BASE}/chat/completions", json=body, headers={"Authorization": f"Bearer {API_KEY}"}, timeout=60
    )
    answer.raise_for_status()
    return answer.json()
