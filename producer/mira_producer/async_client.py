"""The client for async views (FastAPI, Django async). Calls of the sync client run in threads; waits need none."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from mira_producer.batches.client import POLL_S, Batches
from mira_producer.client import Job, MiraQueue, completion_of, outcome_in, unfinished
from mira_producer.inline import Respond, echo
from mira_queue.contract.batch import Batch
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.settings import Settings

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def awaited(method: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, R]]:
    """Return the async counterpart of a sync class's method, for a class that holds the sync object in `sync`."""
    return awaited_as(lambda result: result, method)


def awaited_as(
    convert: Callable[[R], S], method: Callable[Concatenate[Any, P], R]
) -> Callable[Concatenate[Any, P], Coroutine[Any, Any, S]]:
    """Return the same, but with a converted result."""

    @wraps(method)
    async def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> S:
        return convert(await asyncio.to_thread(method, self.sync, *args, **kwargs))

    return call


class AsyncJob:
    """Handle on one job. Each method has the meaning and the errors of the method of Job with the same name."""

    def __init__(self, job: Job) -> None:
        self.sync = job
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
        end_s = math.inf if timeout is None else time.monotonic() + timeout
        while True:
            record = await self._wait(end_s - time.monotonic())
            outcome = outcome_in(record) or await self._outcome_now()
            if outcome is not None:
                return outcome
            if time.monotonic() >= end_s:
                raise unfinished(self.id, timeout)

    async def _outcome_now(self) -> Outcome | None:
        return await asyncio.to_thread(self.sync.queue.outcome_now, self.id)

    async def _wait(self, left_s: float) -> bytes | None:
        """Return what Job._wait returns. Any number of tasks may wait: none of them holds a thread."""
        if left_s <= 0:
            return None
        wait = self.sync.queue.waits.start(self.id)
        try:
            async with asyncio.timeout(None if left_s == math.inf else left_s):
                return await asyncio.wrap_future(wait)
        except TimeoutError:
            return None
        finally:
            # Also if the task is cancelled, or its loop ends.
            wait.cancel()


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


class AsyncMiraQueue:
    """MiraQueue for `async with` and `await`. Parameters, results, and errors are those of MiraQueue.

    Methods that return a Job there return an AsyncJob here.
    """

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        self.sync = MiraQueue(settings, **overrides)

    @classmethod
    def inline(cls, respond: Respond = echo, settings: Settings | None = None, **overrides: Any) -> Self:
        """Return a client without a server, for an app's own tests; see MiraQueue.inline."""
        queue = cls.__new__(cls)
        queue.sync = MiraQueue.inline(respond, settings, **overrides)
        return queue

    @property
    def batches(self) -> AsyncBatches:
        """The queue's batches: files of requests that run in the background."""
        return AsyncBatches(self.sync.batches)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    close = awaited(MiraQueue.close)
    enqueue = awaited_as(AsyncJob, MiraQueue.enqueue)
    enqueue_many = awaited_as(lambda jobs: [AsyncJob(job) for job in jobs], MiraQueue.enqueue_many)

    jobs = awaited(MiraQueue.jobs)
    cancel_all = awaited(MiraQueue.cancel_all)
    retry_all = awaited(MiraQueue.retry_all)

    def job(self, job_id: str) -> AsyncJob:
        """Return the handle of a job by its id; see MiraQueue.job."""
        return AsyncJob(self.sync.job(job_id))
