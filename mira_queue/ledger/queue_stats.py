"""Statistics of the queue, in a few round trips whose cost does not depend on its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.batch import Batch
from mira_queue.contract.names import Lane
from mira_queue.ledger.accounts import Accounts, PaceView
from mira_queue.ledger.activity import Activities, Activity
from mira_queue.ledger.batches import Batches


@dataclass(frozen=True, slots=True)
class AccountStats:
    """Pace and open jobs of one account.

    `queued` counts unclaimed jobs. A message of those in `messages` may hold many jobs. `oldest_queued` is how long the
    oldest of the unclaimed jobs has been in the queue since its message was sent.
    """

    pace: PaceView
    queued: Mapping[Lane, int]
    messages: Mapping[Lane, int]
    leased: int
    waiting: int
    oldest_queued: timedelta = timedelta(0)

    @property
    def open_jobs(self) -> int:
        return sum(self.queued.values()) + self.leased + self.waiting


@dataclass(frozen=True, slots=True)
class QueueStats:
    """State of the queue."""

    server_bytes: int
    accounts: Sequence[AccountStats]
    open_batches: Sequence[Batch]
    activities: Sequence[Activity]
    workers: int


class QueueStatsReader(Accounts, Activities, Batches):
    """Operations for operators."""

    def queue_stats(self) -> QueueStats:
        memory: Any = self._client.info("memory")
        accounts = self.accounts()
        return QueueStats(
            server_bytes=memory["used_memory"],
            accounts=self.account_stats(accounts),
            open_batches=[batch for batch in self.batches() if not batch.status.is_final],
            activities=self.activities(accounts),
            # A process that serves several accounts is one worker.
            workers=len({worker.name for worker in self.live_workers()}),
        )

    def account_stats(self, accounts: Sequence[str]) -> list[AccountStats]:
        """Return the statistics of these accounts, in their order."""
        pipeline: Any = self._client.pipeline(transaction=False)
        for account in accounts:
            pipeline.zcard(names.leased_key(account)).zcard(names.waiting_key(account))
            for lane in Lane:
                pipeline.zcard(names.queued_key(account, lane)).llen(names.messages_key(account, lane))
                pipeline.zrange(names.queued_key(account, lane), 0, 0, withscores=True)
        counts = iter(pipeline.execute())
        found = []
        for pace in self.pace_views(accounts):
            leased, waiting, *lanes = (next(counts) for _ in range(2 + 3 * len(Lane)))
            queued, messages = (dict(zip(Lane, lanes[first::3], strict=True)) for first in (0, 1))
            sent_ms = min((int(score) for entries in lanes[2::3] for _, score in entries), default=pace.now_ms)
            oldest = timedelta(milliseconds=max(0, pace.now_ms - sent_ms))
            found.append(AccountStats(pace, queued, messages, leased, waiting, oldest))
        return found
