"""The client's twin for async views (FastAPI, Django async): the same jobs, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from mira_producer.batches.async_client import AsyncBatches
from mira_producer.client import Job, MiraQueue
from mira_queue.contract.errors import ResultTimeout
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.settings import Settings
from mira_queue.contract.states import JobStatus

# A waiting view looks again after this long, doubling: quick answers come quickly, slow ones cost few looks.
FIRST_LOOK_S = 0.02
LAST_LOOK_S = 0.5


class AsyncJob:
    """A handle on one job; see Job for what each method means and raises."""

    def __init__(self, job: Job, queue: MiraQueue) -> None:
        self._job = job
        self._queue = queue
        self.id = job.id

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    async def status(self) -> JobStatus:
        return await asyncio.to_thread(self._job.status)

    async def outcome(self, timeout: float | None = None) -> Outcome:
        end_s = None if timeout is None else time.monotonic() + timeout
        pause_s = FIRST_LOOK_S
        # No thread is held while waiting: a thousand views may wait at once.
        while (outcome := await asyncio.to_thread(self._queue.outcome_now, self.id)) is None:
            left_s = pause_s if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                raise ResultTimeout(f"job {self.id} has not ended within {timeout:g} s; it goes on")
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(LAST_LOOK_S, pause_s * 2)
        return outcome

    async def result(self, timeout: float | None = None) -> Completion:
        outcome = await self.outcome(timeout)
        if isinstance(outcome, Completion):
            return outcome
        raise outcome.to_error()

    async def cancel(self) -> bool:
        return await asyncio.to_thread(self._job.cancel)

    async def retry(self) -> bool:
        return await asyncio.to_thread(self._job.retry)


class AsyncMiraQueue:
    """MiraQueue for `async with` and `await`; see there for what each method means and raises."""

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self._queue = MiraQueue(settings, **overrides)

    @property
    def batches(self) -> AsyncBatches:
        return AsyncBatches(self._queue.batches)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await asyncio.to_thread(self._queue.close)

    async def enqueue(
        self, messages: Sequence[Mapping[str, Any]], *, model: str | None = None, key: str | None = None, **fields: Any
    ) -> AsyncJob:
        job = await asyncio.to_thread(self._queue.enqueue, messages, model=model, key=key, **fields)
        return AsyncJob(job, self._queue)

    async def enqueue_many(
        self, requests: Iterable[Mapping[str, Any]], *, keys: Iterable[str] | None = None
    ) -> list[AsyncJob]:
        jobs = await asyncio.to_thread(self._queue.enqueue_many, requests, keys=keys)
        return [AsyncJob(job, self._queue) for job in jobs]

    def job(self, job_id: str) -> AsyncJob:
        return AsyncJob(self._queue.job(job_id), self._queue)
