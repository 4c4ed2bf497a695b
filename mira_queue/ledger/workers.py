"""Workers that are alive. Each reports itself at every rescue step, and removes its entry when it stops."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.ledger.connection import translated_errors
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

# A worker that has not reported itself for two intervals and this long has crashed.
REPORT_MARGIN = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker process and the account that it calls; `name` is PID@HOST."""

    account: str
    name: str


class Workers(ScriptRunner):
    """Reports of workers, and who is alive."""

    def report_alive(self, account: str, interval: timedelta) -> None:
        """Record that this process serves the account; it reports again after `interval`."""
        with translated_errors():
            now_ms = self._now_ms()
            pipeline: Any = self._client.pipeline()
            pipeline.zadd(names.WORKERS, {_entry(account): now_ms + in_ms(2 * interval + REPORT_MARGIN)})
            pipeline.zremrangebyscore(names.WORKERS, "-inf", now_ms)
            pipeline.expire(names.WORKERS, names.WORKERS_TTL)
            pipeline.execute()

    def report_stopped(self, account: str) -> None:
        """Remove this process's entry: it takes no more jobs."""
        with translated_errors():
            self._client.zrem(names.WORKERS, _entry(account))

    def live_workers(self) -> list[LiveWorker]:
        """Return the workers of this queue that are alive. One that was killed is listed for a few seconds more."""
        with translated_errors():
            found: Any = self._client.zrange(names.WORKERS, self._now_ms(), "+inf", byscore=True)
        return [LiveWorker(*decode(entry).split(":", 1)) for entry in found]

    def bases_at_work(self) -> set[str]:
        """Return the base URLs that workers of this queue call."""
        with translated_errors():
            bases: list[Any] = [
                self._client.hget(names.pace_key(account), "base")
                for account in {worker.account for worker in self.live_workers()}
            ]
        return {decode(base) for base in bases if base}


def _entry(account: str) -> str:
    return f"{account}:{os.getpid()}@{socket.gethostname()}"
