"""Bounds and errors of live streams."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from threading import Event

import orjson
import pytest
import structlog
from mira_producer.gateway.http.errors import ApiError
from mira_producer.page.live import MAX_STREAMS_PER_KEY, PROBLEM_ID, LiveTopics
from starlette.responses import StreamingResponse

from mira_queue.contract.errors import InvalidRequest

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def signed_in() -> bool:
    return True


async def nothing() -> Mapping[str, str]:
    return {}


def topics() -> LiveTopics:
    return LiveTopics(Event(), structlog.get_logger())


async def test_one_key_cannot_take_the_streams_of_others_and_a_stream_that_ends_makes_room() -> None:
    live = topics()
    streams = [await live.stream("a", nothing, signed_in, "key_1") for _ in range(MAX_STREAMS_PER_KEY)]
    with pytest.raises(ApiError) as caught:
        await live.stream("a", nothing, signed_in, "key_1")
    assert (caught.value.status, caught.value.code) == (503, "too_many_streams")
    await live.stream("a", nothing, signed_in, "key_2")

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        await asyncio.sleep(0)

    await streams[0]({"type": "http", "asgi": {"spec_version": "2.3"}}, receive, send)
    await live.stream("a", nothing, signed_in, "key_1")


async def test_a_wrong_filter_is_the_users_error() -> None:
    async def read() -> Mapping[str, str]:
        raise InvalidRequest("since", "expected a time")

    with pytest.raises(ApiError) as caught:
        await topics().stream("a", read, signed_in, "key_1")
    assert (caught.value.status, caught.value.param) == (400, "since")


async def test_an_error_in_a_stream_is_escaped() -> None:
    async def read() -> Mapping[str, str]:
        raise ApiError(404, "no job <img src=x>")

    stream = await topics().stream("a", read, signed_in, "key_1")
    assert isinstance(stream, StreamingResponse)
    async for event in stream.body_iterator:
        assert isinstance(event, bytes)
        shown = orjson.loads(event.removeprefix(b"data: "))["html"][PROBLEM_ID]
        assert "&lt;img" in shown
        assert "<" not in shown
        break
