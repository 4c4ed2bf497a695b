"""Application and task: late acknowledgment, retries with backoff, `Retry-After` honored, results in Redis.

Celery's documentation recommends all of this for tasks that must survive a crash.
"""

from __future__ import annotations

import json
import os
from typing import Any

import requests
from celery import Celery, Task

CONFIG: dict[str, Any] = json.loads(os.environ["CHAOS_STOCK"])
TASK = "stock.chat"

app = Celery("stock", broker=CONFIG["redis_url"], backend=CONFIG["redis_url"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # Messages of a killed worker are redelivered after this time. The default is an hour.
    broker_transport_options={"visibility_timeout": CONFIG["visibility_timeout_s"]},
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    # Without it, 16 threads per worker use up the server's connections.
    result_backend_thread_safe=True,
    result_expires=CONFIG["result_ttl_s"],
)


@app.task(
    bind=True,
    name=TASK,
    autoretry_for=(requests.RequestException, ValueError),
    dont_autoretry_for=(requests.HTTPError,),
    retry_backoff=True,
    retry_backoff_max=2,
    # High, so that no job is lost because it ran out of attempts.
    max_retries=100,
)  # type: ignore[untyped-decorator]
def chat(self: Task, content: str) -> Any:
    """One chat completion."""
    answer = requests.post(
        f"{CONFIG['api_base']}/chat/completions",
        json={"model": "mira", "messages": [{"role": "user", "content": content}]},
        headers={"Authorization": f"Bearer {CONFIG['api_key']}"},
        timeout=CONFIG["request_timeout_s"],
    )
    if answer.status_code == 429:
        raise self.retry(countdown=float(answer.headers.get("Retry-After", 60)))
    if answer.status_code >= 500:
        raise self.retry(countdown=min(2, 0.1 * 2**self.request.retries))
    answer.raise_for_status()
    return answer.json()
