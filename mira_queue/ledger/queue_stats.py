"""Statistics of the queue, in a few round trips whose cost does not depend on its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.batch import Batch
from mira_queue.contract.names import Lane
from mira_queue.ledger.accounts import Accounts, PaceView
from mira_queue.ledger.batches import Batches
from mira_queue.ledger.script_runner import decode, ledger_ms


@dataclass(frozen=True, slots=True)
class QueueStats:
    """State of the queue. `queued` counts unclaimed jobs. A message of those in `messages` may hold many jobs."""

    queued: Mapping[Lane, int]
    messages: Mapping[Lane, int]
    leased: int
    waiting: int
    server_bytes: int
    accounts: Sequence[PaceView]
    open_batches: Sequence[Batch]


class QueueStatsReader(Accounts, Batches):
    """Operations for operators."""

    def queue_stats(self) -> QueueStats:
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.time().hget(names.CLOCK, "offset_ms").info("memory").zcard(names.LEASED).zcard(names.WAITING)
        pipeline.zrange(names.ACCOUNTS, 0, -1)
        for lane in Lane:
            pipeline.zcard(names.queued_key(lane)).llen(names.messages_key(lane))
        server_time, offset_ms, memory, leased, waiting, accounts, *lanes = pipeline.execute()
        return QueueStats(
            queued=dict(zip(Lane, lanes[::2], strict=True)),
            messages=dict(zip(Lane, lanes[1::2], strict=True)),
            leased=leased,
            waiting=waiting,
            server_bytes=memory["used_memory"],
            accounts=self.pace_views(
                sorted(decode(account) for account in accounts), ledger_ms(server_time, offset_ms)
            ),
            open_batches=[batch for batch in self.batches() if not batch.status.is_final],
        )
