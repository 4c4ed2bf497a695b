"""Batches for async views: the same, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from mira_producer.batches.client import POLL_S, Batches
from mira_queue.contract.batch import Batch

P = ParamSpec("P")
T = TypeVar("T")


def _awaited(
    method: Callable[Concatenate[Batches, P], T],
) -> Callable[Concatenate[AsyncBatches, P], Coroutine[Any, Any, T]]:
    """The method, in a thread of its own: it reads files, or waits for the server."""

    @wraps(method)
    async def call(self: AsyncBatches, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.to_thread(method, self.of_threads, *args, **kwargs)

    return call


class AsyncBatches:
    """The batches of a queue; see Batches for what each method means and raises."""

    def __init__(self, of_threads: Batches) -> None:
        self.of_threads = of_threads

    submit = _awaited(Batches.submit)
    get = _awaited(Batches.get)
    all = _awaited(Batches.all)
    pause = _awaited(Batches.pause)
    resume = _awaited(Batches.resume)
    cancel = _awaited(Batches.cancel)
    retry = _awaited(Batches.retry)
    results = _awaited(Batches.results)
    report = _awaited(Batches.report)
    look = _awaited(Batches.look)

    async def wait(self, batch_id: str, timeout: float | None = None) -> Batch:
        end_s = None if timeout is None else time.monotonic() + timeout
        # No thread is held while waiting: a batch may take a day.
        while True:
            batch, is_at_rest = await self.look(batch_id)
            left_s = POLL_S if end_s is None else min(POLL_S, end_s - time.monotonic())
            if is_at_rest or left_s <= 0:
                return batch
            await asyncio.sleep(left_s)
