"""Check of the result backend, unless it is the queue's server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, ok, problem, reason
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.celery_config import build_celery

TIMEOUT_S = 10.0


def check_result_backend(settings: Settings, redis_url: str) -> Iterator[Finding]:
    """Request the result of a job that does not exist."""
    if settings.result_backend is None:
        return
    where = masked(settings.result_backend.get_secret_value())
    reply: SimpleQueue[Exception | None] = SimpleQueue()
    # Some backends have no timeout. A thread can be left behind.
    threading.Thread(target=_ask, args=(settings, redis_url, reply), daemon=True).start()
    try:
        error = reply.get(timeout=TIMEOUT_S)
    except Empty:
        error = TimeoutError(f"no response within {TIMEOUT_S:g} s")
    if error is None:
        yield ok("result backend", where)
    else:
        fix = f"start it, or correct {variable('result_backend')}"
        yield problem("result backend", f"{where}: {reason(error, settings)}", fix)


def _ask(settings: Settings, redis_url: str, reply: SimpleQueue[Exception | None]) -> None:
    try:
        with build_celery(settings, redis_url) as celery:
            celery.conf.result_backend_always_retry = False
            celery.backend.get_task_meta(str(uuid.uuid4()), cache=False)
    # Every backend has its own errors. All of them are results of this check.
    except Exception as error:  # noqa: BLE001
        reply.put(error)
    else:
        reply.put(None)
