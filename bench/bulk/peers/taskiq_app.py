"""taskiq as its documentation recommends: Redis streams, results in Redis, one aiohttp session per worker process.

Start the worker with `taskiq worker bench.bulk.peers.taskiq_app:broker`. A message is acknowledged when its result is
stored, which is taskiq's default.
"""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from taskiq import Context, TaskiqDepends, TaskiqEvents, TaskiqState
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

REDIS_URL = os.environ["PEER_REDIS_URL"]
API_BASE = os.environ["PEER_API_BASE"]
API_KEY = os.environ["PEER_API_KEY"]
RESULT_LIFE_S = 7 * 24 * 3600

broker = RedisStreamBroker(url=REDIS_URL).with_result_backend(
    RedisAsyncResultBackend(redis_url=REDIS_URL, result_ex_time=RESULT_LIFE_S)
)


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def open_session(state: TaskiqState) -> None:
    # The default of 100 connections is enough for all tasks.
    state.session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_KEY}"})


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def close_session(state: TaskiqState) -> None:
    await state.session.close()


@broker.task
async def chat(body: dict[str, Any], context: Context = TaskiqDepends()) -> dict[str, Any]:  # noqa: B008
    """One chat completion."""
    async with context.state.session.post(f"{API_BASE}/chat/completions", json=body) as answer:
        answer.raise_for_status()
        return dict(await answer.json())
