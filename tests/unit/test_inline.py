"""`MiraQueue.inline`: an app's own tests, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mira_queue import (
    AsyncMiraQueue,
    ContentBlocked,
    Failure,
    IdempotencyConflict,
    InvalidRequest,
    JobCancelled,
    JobNotFound,
    JobState,
    MiraQueue,
    QueueUnavailable,
    ResultTimeout,
)

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def queue(tmp_path: Path) -> MiraQueue:
    return MiraQueue.inline(state_dir=tmp_path / "state")


def test_a_job_has_its_answer_when_enqueue_returns(queue: MiraQueue, tmp_path: Path) -> None:
    job = queue.enqueue(HELLO, model="mira-max", metadata={"tenant": "7"})

    status = queue.job(job.id).status()
    assert (status.state, status.attempts, status.model, status.metadata) == (
        JobState.SUCCEEDED,
        1,
        "mira-max",
        {"tenant": "7"},
    )
    assert job.result(0).text == "Inline answer to: Hello"
    assert not list(tmp_path.iterdir())


def test_the_app_chooses_what_the_api_would_answer(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []

    def respond(body: dict[str, Any]) -> str | dict[str, Any]:
        seen.append(body)
        if body["messages"][0]["content"] == "blocked":
            raise ContentBlocked("blocked by a test", 422)
        if body["messages"][0]["content"] == "body":
            choice = {"message": {"role": "assistant", "content": "whole"}, "finish_reason": "length"}
            return {"id": "chatcmpl-1", "choices": [choice], "usage": {"total_tokens": 5}}
        return "a text"

    queue = MiraQueue.inline(respond, state_dir=tmp_path)
    texts = ["text", "body", "blocked"]
    jobs = queue.enqueue_many([{"messages": [{"role": "user", "content": text}]} for text in texts])

    text, whole = jobs[0].result(), jobs[1].result()
    assert (text.text, text.body["choices"][0]["message"]["content"]) == ("a text", "a text")
    assert (whole.text, whole.finish_reason, whole.usage["total_tokens"]) == ("whole", "length", 5)
    with pytest.raises(ContentBlocked) as failed:
        jobs[2].result()
    assert (failed.value.status, failed.value.attempts) == (422, 1)
    assert [job.id for job in queue.jobs(code="content_blocked")] == [jobs[2].id]
    assert [body["messages"][0]["content"] for body in seen] == texts


def test_requests_are_checked_and_keys_recognized_as_on_a_server(queue: MiraQueue) -> None:
    with pytest.raises(InvalidRequest):
        queue.enqueue(HELLO, countdown=60)
    with pytest.raises(InvalidRequest):
        queue.enqueue([{"role": "user", "content": None}])
    first = queue.enqueue(HELLO, key="order 7")

    assert queue.enqueue(HELLO, key="order 7").id == first.id
    with pytest.raises(IdempotencyConflict):
        queue.enqueue(HELLO, key="order 7", temperature=1)
    with pytest.raises(JobNotFound):
        queue.job("another").status()


def test_a_failed_job_runs_again_on_command(tmp_path: Path) -> None:
    answers: Iterator[str | Failure] = iter([Failure("content_blocked", "first", 422), "second"])
    queue = MiraQueue.inline(lambda _: next(answers), state_dir=tmp_path)
    job = queue.enqueue(HELLO)

    assert queue.retry_all(code="content_blocked") == 1
    assert job.result().text == "second"
    assert job.retry() is False


def test_a_delayed_job_can_be_cancelled_or_waited_for(queue: MiraQueue) -> None:
    cancelled, waited = (queue.enqueue(HELLO, delay=3600) for _ in range(2))

    assert [job.id for job in queue.jobs(state="waiting")] == [waited.id, cancelled.id]
    with pytest.raises(ResultTimeout):
        waited.result(0)
    assert cancelled.cancel() is True
    with pytest.raises(JobCancelled):
        cancelled.result()
    assert waited.result().text == "Inline answer to: Hello"


def test_it_has_no_batches(queue: MiraQueue) -> None:
    with queue, pytest.raises(QueueUnavailable):
        queue.batches.all()


def test_the_async_client_has_the_same(tmp_path: Path) -> None:
    async def answer() -> str:
        async with AsyncMiraQueue.inline(lambda body: "an answer", state_dir=tmp_path) as queue:
            return (await (await queue.enqueue(HELLO)).result(10)).text

    assert asyncio.run(answer()) == "an answer"
