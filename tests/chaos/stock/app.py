"""The application and its task: late acknowledgement, retries with backoff, Retry-After honoured, results in Redis.

All of it is Celery's documented advice for tasks that must survive a crash. What differs from its defaults is here.
"""

from __future__ import annotations

import json
import os
from typing import Any

import requests
from celery import Celery, Task

TOLD: dict[str, Any] = json.loads(os.environ["CHAOS_STOCK"])
TASK = "stock.chat"

app = Celery("stock", broker=TOLD["redis_url"], backend=TOLD["redis_url"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # Its own redelivery: what a dead worker held comes back after this. The default is an hour.
    broker_transport_options={"visibility_timeout": TOLD["visibility_timeout_s"]},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Without it 16 threads a worker use up the server's connections.
    result_backend_thread_safe=True,
    result_expires=TOLD["result_ttl_s"],
)


@app.task(
    bind=True,
    name=TASK,
    autoretry_for=(requests.RequestException, ValueError),
    dont_autoretry_for=(requests.HTTPError,),
    retry_backoff=True,
    retry_backoff_max=2,
    # Generous: what is lost below is not lost for want of tries.
    max_retries=100,
)  # type: ignore[untyped-decorator]
def chat(self: Task, content: str) -> Any:
    """One chat completion."""
    answer = requests.post(
        f"{TOLD['api_base']}/chat/completions",
        json={"model": "mira", "messages": [{"role": "user", "content": content}]},
        headers={"Authorization": f"Bearer {TOLD['api_key']}"},
        timeout=TOLD["request_timeout_s"],
    )
    if answer.status_code == 429:
        raise self.retry(countdown=float(answer.headers.get("Retry-After", 60)))
    if answer.status_code >= 500:
        raise self.retry(countdown=min(2, 0.1 * 2**self.request.retries))
    answer.raise_for_status()
    return answer.json()
