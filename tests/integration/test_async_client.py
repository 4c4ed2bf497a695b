"""The client for async views: the same jobs, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mira_queue import (
    AsyncMiraQueue,
    BatchRefused,
    BatchStatus,
    Failure,
    IdempotencyConflict,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    JobState,
    MiraQueue,
    ResultTimeout,
)
from mira_queue.contract.settings import Settings
from tests.support.batch_steps import end_supervisors, entries
from tests.support.run_process import write_lines
from tests.support.simulator_process import SimulatorProcess

TIMEOUT_S = 60

pytestmark = pytest.mark.usefixtures("worker")

View = Callable[[AsyncMiraQueue], Awaitable[Any]]


def ask(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.fixture
def run(settings: Settings) -> Callable[[View], Any]:
    """Runs an async view with a client of its own."""

    async def serve(view: View) -> Any:
        async with AsyncMiraQueue(settings) as queue:
            return await view(queue)

    return lambda view: asyncio.run(serve(view))


def test_a_hundred_views_wait_at_once(run: Callable[[View], Any], simulator: SimulatorProcess) -> None:
    async def one(queue: AsyncMiraQueue, number: int) -> str:
        job = await queue.enqueue(ask(f"number {number}"), temperature=1)
        return (await job.result(TIMEOUT_S)).text

    async def view(queue: AsyncMiraQueue) -> list[str]:
        return await asyncio.gather(*(one(queue, number) for number in range(100)))

    assert run(view) == [f"Simulated answer to: number {number}" for number in range(100)]
    assert simulator.stats()["calls"] == 100


def test_while_a_view_waits_the_loop_goes_on(run: Callable[[View], Any]) -> None:
    async def view(queue: AsyncMiraQueue) -> int:
        job = await queue.enqueue(ask("[[sim:slow=0.5]] Hello"))
        waiting = asyncio.create_task(job.result(TIMEOUT_S))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.001)
            turns += 1
        await waiting
        return turns

    assert run(view) > 10


def test_a_failure_is_raised_typed_and_retried_on_command(run: Callable[[View], Any]) -> None:
    async def view(queue: AsyncMiraQueue) -> tuple[Any, ...]:
        job = await queue.enqueue(ask("[[sim:402x1]] Hello"))
        outcome = await job.outcome(TIMEOUT_S)
        retried = await job.retry()
        completion = await job.result(TIMEOUT_S)
        return outcome, retried, completion.attempts, (await job.status()).state, await job.retry()

    outcome, *rest = run(view)
    assert isinstance(outcome, Failure)
    assert outcome.code == "balance_used_up"
    assert rest == [True, 1, JobState.SUCCEEDED, False]


def test_a_job_that_has_not_ended_is_waited_for_or_not(run: Callable[[View], Any]) -> None:
    async def view(queue: AsyncMiraQueue) -> str:
        job = await queue.enqueue(ask("[[sim:slow=1]] Hello"))
        for timeout in (0, 0.05):
            with pytest.raises(ResultTimeout, match="continues"):
                await job.result(timeout)
        return (await job.result()).text

    assert run(view).endswith("Hello")


def test_many_requests_and_their_keys(run: Callable[[View], Any], simulator: SimulatorProcess) -> None:
    async def view(queue: AsyncMiraQueue) -> tuple[list[str], list[str]]:
        requests = [{"messages": ask(f"number {number}")} for number in range(5)]
        keys = [f"order {number}" for number in range(5)]
        first = await queue.enqueue_many(requests, keys=keys)
        second = await queue.enqueue_many(requests, keys=keys)
        for job in first:
            await job.result(TIMEOUT_S)
        with pytest.raises(IdempotencyConflict):
            await queue.enqueue(ask("other"), key="order 0")
        with pytest.raises(InvalidRequest, match="messages"):
            await queue.enqueue([{"role": "user", "content": ["a part"]}])
        return [job.id for job in first], [job.id for job in second]

    first, second = run(view)
    assert first == second
    assert simulator.stats()["calls"] == 5


def test_cancelled_and_unknown_jobs_say_so(run: Callable[[View], Any]) -> None:
    async def view(queue: AsyncMiraQueue) -> None:
        job = await queue.enqueue(ask("[[sim:slow=1]] Hello"))
        assert repr(job) == f"AsyncJob({job.id!r})"
        assert await job.cancel()
        with pytest.raises(JobCancelled):
            await job.result(TIMEOUT_S)
        with pytest.raises(JobNotFound):
            await queue.job("nowhere").status()

    run(view)


def test_a_job_of_the_one_client_is_a_job_of_the_other(run: Callable[[View], Any], queue: MiraQueue) -> None:
    job = queue.enqueue(ask("Hello"))

    async def view(async_queue: AsyncMiraQueue) -> str:
        return (await async_queue.job(job.id).result(TIMEOUT_S)).text

    assert run(view) == job.result(0).text


def test_a_batch_is_awaited_from_its_file_to_its_answers(
    run: Callable[[View], Any], queue: MiraQueue, tmp_path: Path
) -> None:
    write_lines(tmp_path / "input.jsonl", entries(20))

    async def view(async_queue: AsyncMiraQueue) -> tuple[Any, ...]:
        batches = async_queue.batches
        batch = await batches.submit(tmp_path / "input.jsonl", metadata={"for": "a view"})
        waiting = asyncio.create_task(batches.wait(batch.id, TIMEOUT_S))
        assert (await batches.wait(batch.id, 0)).id == batch.id
        ended = await waiting
        with pytest.raises(BatchRefused, match="has ended"):
            await batches.pause(batch.id)
        counts = await batches.results(batch.id, tmp_path / "output.jsonl")
        return ended.status, ended.metadata, counts, [each.id for each in await batches.all()] == [batch.id]

    try:
        assert run(view) == (BatchStatus.COMPLETED, {"for": "a view"}, (20, 0), True)
    finally:
        end_supervisors(queue)
