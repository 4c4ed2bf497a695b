"""The result backend, where it is not the queue's own server."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from queue import Empty, SimpleQueue

from mira_producer.cli.config import masked
from mira_producer.cli.doctor.finding import Finding, ok, problem, reason
from mira_queue.contract.settings import Settings, variable
from mira_queue.runtime.celery_config import build_celery

PATIENCE_S = 10.0


def check_result_backend(settings: Settings, redis_url: str) -> Iterator[Finding]:
    """Asks it for the result of a job that never was."""
    if settings.result_backend is None:
        return
    where = masked(settings.result_backend.get_secret_value())
    answer: SimpleQueue[Exception | None] = SimpleQueue()
    # Backends have time limits of their own, each another, some none: a thread can be left behind.
    threading.Thread(target=_ask, args=(settings, redis_url, answer), daemon=True).start()
    try:
        error = answer.get(timeout=PATIENCE_S)
    except Empty:
        error = TimeoutError(f"no answer within {PATIENCE_S:g} s")
    if error is None:
        yield ok("result backend", where)
    else:
        fix = f"start it, or correct {variable('result_backend')}"
        yield problem("result backend", f"{where}: {reason(error, settings)}", fix)


def _ask(settings: Settings, redis_url: str, answer: SimpleQueue[Exception | None]) -> None:
    try:
        with build_celery(settings, redis_url) as celery:
            celery.conf.result_backend_always_retry = False
            celery.backend.get_task_meta(str(uuid.uuid4()), cache=False)
    # Every backend has its own errors, and all of them are an answer here.
    except Exception as error:  # noqa: BLE001
        answer.put(error)
    else:
        answer.put(None)
