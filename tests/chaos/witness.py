"""The count of truth for outcomes: each is read when it is stored, and must never be stored again or change.

It listens to the channels on which results are announced, and reads what it may have missed while the server was dead.
It knows only where Celery's Redis backend keeps a result, and works alike for us and for stock Celery.
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
# Pending outcomes that are read in one look: the ones that have waited longest.
LOOK_AT = 2_000
LOOK_EVERY_S = 1.0


class Witness:
    """Watches the server at `url` from a thread. `accepted` is told it by the driver, from the journals."""

    def __init__(self, url: str) -> None:
        self.client = redis.Redis.from_url(client_url(url), socket_timeout=10)
        self._seen: dict[str, bytes] = {}
        self._pending: dict[str, None] = {}
        self.doubled: set[str] = set()
        self.last_news_s = time.monotonic()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._again, args=(step, pause_s), name=f"witness-{step.__name__}", daemon=True)
            for step, pause_s in ((self._listen, 0.1), (self._look, LOOK_EVERY_S))
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

    def stuck(self, most: int) -> list[str]:
        with self._lock:
            return list(self._pending)[:most]

    def note(self, job_id: str, record: bytes) -> Mapping[str, Any] | None:
        """One record that was stored. None: no outcome yet (stock Celery stores RETRY as well)."""
        try:
            content = orjson.loads(record)
        except orjson.JSONDecodeError:
            content = {"status": "FAILURE"}
        if content.get("status") not in READY:
            return None
        digest = hashlib.blake2b(record, digest_size=8).digest()
        with self._lock:
            self.last_news_s = time.monotonic()
            self._pending.pop(job_id, None)
            if self._seen.setdefault(job_id, digest) != digest:
                self.doubled.add(job_id)
        found: Mapping[str, Any] = content
        return found

    def final_records(self, job_ids: list[str]) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
        """Each job's outcome as it stands in the end; None: it has none. Compared with what was seen before."""
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
                # A cancelled job of a batch may be announced without a record.
                if message and message["type"] == "pmessage" and message["data"]:
                    self.note(message["channel"].decode().removeprefix(PREFIX), message["data"])

    def _look(self) -> None:
        looked = self.stuck(LOOK_AT)
        for job_id, _ in self.final_records(looked):
            with self._lock:
                if job_id in self._pending:
                    # To the end of the line: the next look takes others first.
                    self._pending[job_id] = self._pending.pop(job_id)

    def _again(self, step: Any, pause_s: float) -> None:
        while not self._stopped.wait(pause_s):
            try:
                step()
            except redis.RedisError:
                continue  # The server was killed: that is what we are here for.


def client_url(url: str) -> str:
    """Celery's word for a socket, in the Redis client's."""
    return url.replace("redis+socket://", "unix://", 1)
