"""Independent record of outcomes: each is read when it is stored, and must not be stored again or change.

The monitor subscribes to the channels that announce results. It also polls for results that it missed while the server
was down. It depends only on the keys of Celery's Redis backend, so it works for mira-queue and for stock Celery.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson
import redis

PREFIX = "celery-task-meta-"
READY = ("SUCCESS", "FAILURE", "REVOKED")
CHUNK = 500
# Maximum number of pending outcomes per poll, the oldest first.
MAX_POLLED = 2_000
POLL_EVERY_S = 1.0


class ResultMonitor:
    """Monitors the server at `url` in threads. The driver reports accepted jobs, which it reads from the journals."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(client_url(url), socket_timeout=10)
        self._seen: dict[str, bytes] = {}
        self._pending: dict[str, None] = {}
        self.duplicated: set[str] = set()
        self.last_result_s = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(
                target=self._repeat, args=(step, pause_s), name=f"result-monitor-{step.__name__}", daemon=True
            )
            for step, pause_s in ((self._listen, 0.1), (self._poll, POLL_EVERY_S))
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def accepted(self, job_ids: Iterable[str]) -> None:
        with self._lock:
            self._pending.update((job_id, None) for job_id in job_ids if job_id not in self._seen)

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def seen(self) -> int:
        return len(self._seen)

    def oldest_pending(self, limit: int) -> list[str]:
        with self._lock:
            return list(self._pending)[:limit]

    def note(self, job_id: str, record: bytes) -> Mapping[str, Any] | None:
        """Record a stored result. Return None if it is not final (stock Celery also stores RETRY)."""
        try:
            content = orjson.loads(record)
        except orjson.JSONDecodeError:
            content = {"status": "FAILURE"}
        if content.get("status") not in READY:
            return None
        digest = hashlib.blake2b(record, digest_size=8).digest()
        with self._lock:
            self.last_result_s = time.monotonic()
            self._pending.pop(job_id, None)
            if self._seen.setdefault(job_id, digest) != digest:
                self.duplicated.add(job_id)
        found: Mapping[str, Any] = content
        return found

    def final_records(self, job_ids: list[str]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """Yield each job's final record, or None if there is none. Each record is compared with the one seen before."""
        for start in range(0, len(job_ids), CHUNK):
            part = job_ids[start : start + CHUNK]
            records: list[Any] = self.client.mget([PREFIX + job_id for job_id in part])
            for job_id, record in zip(part, records, strict=True):
                yield job_id, None if record is None else self.note(job_id, record)

    def _listen(self) -> None:
        with self.client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.psubscribe(PREFIX + "*")
            while not self._stopped.is_set():
                message = channel.get_message(timeout=0.5)
                # A cancelled batch job can be announced without a record.
                if message and message["type"] == "pmessage" and message["data"]:
                    self.note(message["channel"].decode().removeprefix(PREFIX), message["data"])

    def _poll(self) -> None:
        polled = self.oldest_pending(MAX_POLLED)
        for job_id, _ in self.final_records(polled):
            with self._lock:
                if job_id in self._pending:
                    # Move it to the end, so that the next poll reads other jobs first.
                    self._pending[job_id] = self._pending.pop(job_id)

    def _repeat(self, step: Any, pause_s: float) -> None:
        while not self._stopped.wait(pause_s):
            try:
                step()
            except redis.RedisError:
                continue  # The server was killed, as planned.


def client_url(url: str) -> str:
    """Convert Celery's URL of a Unix socket to the form of the Redis client."""
    return url.replace("redis+socket://", "unix://", 1)
