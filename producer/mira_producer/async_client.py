"""The client for async views (FastAPI, Django async): the same jobs, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from mira_producer.awaited import awaited
from mira_producer.batches.async_client import AsyncBatches
from mira_producer.client import Job, MiraQueue, completion_of, unfinished
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.settings import Settings

# A waiting view polls after this long, doubling: it gets quick answers quickly, and polls rarely for slow ones.
FIRST_POLL_S = 0.02
MAX_POLL_S = 0.5


class AsyncJob:
    """Handle on one job. Each method has the meaning and the errors of the method of Job with the same name."""

    def __init__(self, job: Job, queue: MiraQueue) -> None:
        self.sync = job
        self._queue = queue
        self.id = job.id

    def __repr__(self) -> str:
        return f"AsyncJob({self.id!r})"

    status = awaited(Job.status)
    cancel = awaited(Job.cancel)
    retry = awaited(Job.retry)

    async def result(self, timeout: float | None = None) -> Completion:
        """Wait until the job has finished, and return its completion; see Job.result."""
        return completion_of(await self.outcome(timeout))

    async def outcome(self, timeout: float | None = None) -> Outcome:
        """Wait as `result` does, and return the Completion or the Failure; see Job.outcome."""
        end_s = None if timeout is None else time.monotonic() + timeout
        pause_s = FIRST_POLL_S
        # No thread is held while waiting: a thousand views may wait at the same time.
        while (outcome := await asyncio.to_thread(self._queue.outcome_now, self.id)) is None:
            left_s = pause_s if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                raise unfinished(self.id, timeout)
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(MAX_POLL_S, pause_s * 2)
        return outcome


class AsyncMiraQueue:
    """MiraQueue for `async with` and `await`. Parameters, results, and errors are those of MiraQueue."""

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.sync = MiraQueue(settings, **overrides)

    @property
    def batches(self) -> AsyncBatches:
        """The queue's batches: files of requests that run in the background."""
        return AsyncBatches(self.sync.batches)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    close = awaited(MiraQueue.close)

    async def enqueue(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        key: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> AsyncJob:
        """Accept one chat job; see MiraQueue.enqueue."""
        options = {"model": model, "key": key, "extra_body": extra_body, **fields}
        return self._async(await asyncio.to_thread(self.sync.enqueue, messages, **options))

    async def enqueue_many(
        self, requests: Iterable[Mapping[str, Any]], *, keys: Iterable[str] | None = None
    ) -> list[AsyncJob]:
        """Accept many jobs, given as request bodies; see MiraQueue.enqueue_many."""
        jobs = await asyncio.to_thread(self.sync.enqueue_many, requests, keys=keys)
        return [self._async(job) for job in jobs]

    def job(self, job_id: str) -> AsyncJob:
        """Return the handle of a job by its id; see MiraQueue.job."""
        return self._async(self.sync.job(job_id))

    def _async(self, job: Job) -> AsyncJob:
        return AsyncJob(job, self.sync)
