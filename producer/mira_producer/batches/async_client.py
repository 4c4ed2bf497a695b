"""Batches for async views: the same, awaited."""

from __future__ import annotations

import asyncio
import time

from mira_producer.awaited import awaited
from mira_producer.batches.client import POLL_S, Batches
from mira_queue.contract.batch import Batch


class AsyncBatches:
    """The batches of a queue; see Batches for what each method means and raises."""

    def __init__(self, batches: Batches) -> None:
        self.sync = batches

    submit = awaited(Batches.submit)
    get = awaited(Batches.get)
    all = awaited(Batches.all)
    pause = awaited(Batches.pause)
    resume = awaited(Batches.resume)
    cancel = awaited(Batches.cancel)
    retry = awaited(Batches.retry)
    results = awaited(Batches.results)
    report = awaited(Batches.report)
    look = awaited(Batches.look)

    async def wait(self, batch_id: str, timeout: float | None = None) -> Batch:
        end_s = None if timeout is None else time.monotonic() + timeout
        # No thread is held while waiting: a batch may take a day.
        while True:
            batch, is_at_rest = await self.look(batch_id)
            left_s = POLL_S if end_s is None else min(POLL_S, end_s - time.monotonic())
            if is_at_rest or left_s <= 0:
                return batch
            await asyncio.sleep(left_s)
