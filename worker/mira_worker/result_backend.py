"""Outcomes in a result backend on another server (a database, memcached, another Redis, ...)."""

from __future__ import annotations

from typing import Any

import orjson

from mira_queue.contract.known_fields import known_fields
from mira_queue.contract.outcome import Completion, Failure, Outcome, celery_state


class BackendResults:
    """Stores through Celery's backend object (`app.backend`), so that plain Celery can read the outcomes."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def store(self, job_id: str, outcome: Outcome) -> None:
        result = outcome.to_dict() if isinstance(outcome, Completion) else outcome.to_error()
        self._backend.store_result(job_id, result, celery_state(outcome))

    def pack(self, outcome: Outcome) -> bytes:
        return orjson.dumps([type(outcome).__name__, outcome.to_dict()])

    def unpack(self, packed: bytes) -> Outcome:
        name, fields = orjson.loads(packed)
        kind = Completion if name == Completion.__name__ else Failure
        return kind(**known_fields(kind, fields))
