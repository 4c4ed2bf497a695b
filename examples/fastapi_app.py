"""A FastAPI app that answers chat questions in the background. One of its views waits for the answer.

mira-queue worker &
uvicorn --factory examples.fastapi_app:create_app
curl -X POST localhost:8000/questions -H 'Content-Type: application/json' -d '{"text": "Why is the sky blue?"}'
curl localhost:8000/questions/ID
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from mira_queue import (
    AsyncMiraQueue,
    Completion,
    IdempotencyConflict,
    InvalidRequest,
    JobNotFound,
    MiraQueueError,
    QueueUnavailable,
    ResultTimeout,
)

# HTTP status for each error of the queue. The first matching row applies.
STATUS_OF: tuple[tuple[type[MiraQueueError], int], ...] = (
    (InvalidRequest, 400),
    (JobNotFound, 404),
    (IdempotencyConflict, 409),
    (ResultTimeout, 504),
    (QueueUnavailable, 503),
    (MiraQueueError, 502),
)


class Question(BaseModel):
    text: str


def create_app() -> FastAPI:
    """Return the app. It opens the queue when the server starts, and closes it when the server stops."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncMiraQueue() as queue:
            app.state.queue = queue
            yield

    app = FastAPI(title="Questions", lifespan=life)

    @app.post("/questions", status_code=202)
    async def ask(
        question: Question, request: Request, idempotency_key: Annotated[str | None, Header()] = None
    ) -> dict[str, Any]:
        queue: AsyncMiraQueue = request.app.state.queue
        job = await queue.enqueue([{"role": "user", "content": question.text}], key=idempotency_key)
        return {"id": job.id, "status": f"/questions/{job.id}"}

    @app.get("/questions/{job_id}")
    async def answer(job_id: str, request: Request) -> Any:
        queue: AsyncMiraQueue = request.app.state.queue
        status = await queue.job(job_id).status()
        if not status.state.is_final:
            return JSONResponse({"state": status.state, "reason": status.reason}, 202)
        outcome = await queue.job(job_id).outcome(timeout=0)
        if isinstance(outcome, Completion):
            return {"state": status.state, "text": outcome.text, "usage": outcome.usage}
        return JSONResponse({"state": status.state, "error": asdict(outcome)}, 502)

    @app.delete("/questions/{job_id}")
    async def cancel(job_id: str, request: Request) -> dict[str, bool]:
        queue: AsyncMiraQueue = request.app.state.queue
        return {"cancelled": await queue.job(job_id).cancel()}

    @app.post("/quick-questions")
    async def ask_and_wait(question: Question, request: Request) -> dict[str, Any]:
        """Wait for at most 20 s, without blocking a thread. If the caller disconnects, the job continues."""
        queue: AsyncMiraQueue = request.app.state.queue
        job = await queue.enqueue([{"role": "user", "content": question.text}])
        completion = await job.result(timeout=20)
        return {"id": job.id, "text": completion.text}

    @app.exception_handler(MiraQueueError)
    async def explain(request: Request, error: MiraQueueError) -> JSONResponse:
        status = next(code for kind, code in STATUS_OF if isinstance(error, kind))
        return JSONResponse({"reason": str(error)}, status)

    return app
