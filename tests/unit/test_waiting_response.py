"""A response that waits keeps its connection open, has the right status, and notices when its client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson
import pytest
from mira_producer.gateway.jobs import event_stream, waiting_response
from mira_producer.gateway.jobs.event_stream import EventStream
from mira_producer.gateway.jobs.waiting_response import WaitingResponse
from starlette.requests import ClientDisconnect

from mira_queue import Unprocessable

OBJECT = {"id": "chatcmpl-1"}
SCOPE: dict[str, Any] = {"type": "http", "asgi": {"spec_version": "2.3"}}


class Client:
    """An ASGI client. It disconnects when `leaves` is set."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.leaves = asyncio.Event()
        self.heard = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.sent.append(message)
        if message.get("body"):
            self.heard.set()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (waiting_response, event_stream):
        monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.01)


async def nothing() -> None:
    """Nobody needs to know."""


def test_white_space_keeps_a_connection_open_until_the_object_is_there() -> None:
    async def run() -> Client:
        client = Client()

        async def result() -> Mapping[str, Any]:
            await client.heard.wait()
            return OBJECT

        await WaitingResponse(result, nothing)(SCOPE, client.receive, client.send)
        return client

    client = asyncio.run(run())
    assert client.sent[0]["status"] == 200
    assert b"content-length" not in dict(client.sent[0]["headers"])
    assert client.body[:1].isspace()
    assert orjson.loads(client.body) == OBJECT


def test_an_object_that_is_there_immediately_has_its_length() -> None:
    async def run() -> Client:
        client = Client()

        async def result() -> Mapping[str, Any]:
            return OBJECT

        await WaitingResponse(result, nothing, {"x-a": "b"})(SCOPE, client.receive, client.send)
        return client

    client = asyncio.run(run())
    headers = dict(client.sent[0]["headers"])
    assert headers[b"content-length"] == str(len(client.body)).encode()
    assert (headers[b"x-a"], headers[b"content-type"]) == (b"b", b"application/json")


def test_an_early_error_is_raised_and_a_late_one_is_an_object_in_the_body() -> None:
    async def run(*, late: bool) -> Client:
        client = Client()

        async def result() -> Mapping[str, Any]:
            if late:
                await client.heard.wait()
            raise Unprocessable("blocked", 422)

        await WaitingResponse(result, nothing)(SCOPE, client.receive, client.send)
        return client

    with pytest.raises(Unprocessable):
        asyncio.run(run(late=False))
    error = orjson.loads(asyncio.run(run(late=True)).body)["error"]
    assert (error["code"], error["message"]) == ("unprocessable", "blocked")


def test_a_client_that_leaves_ends_the_wait() -> None:
    async def run() -> list[str]:
        client, told = Client(), []

        async def forever() -> Mapping[str, Any]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("wait ended")
                raise
            return OBJECT

        async def left() -> None:
            told.append("left")

        client.leaves.set()
        with pytest.raises(ClientDisconnect):
            await WaitingResponse(forever, left)(SCOPE, client.receive, client.send)
        await asyncio.sleep(0)
        return told

    assert asyncio.run(run()) == ["left", "wait ended"]


def test_comments_keep_a_stream_open_and_events_notice_that_the_client_has_left() -> None:
    async def run() -> tuple[Client, list[str]]:
        client, told = Client(), []
        ended = asyncio.Event()

        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                told.append("left")
                raise
            finally:
                ended.set()

        stream = EventStream(events())
        await stream.begin(client.receive)
        response = asyncio.ensure_future(stream(SCOPE, client.receive, client.send))
        while b": keep-alive" not in client.body:
            client.heard.clear()
            await client.heard.wait()
        client.leaves.set()
        await asyncio.wait({response})
        await ended.wait()
        return client, told

    client, told = asyncio.run(run())
    assert client.body.startswith(b"data: 1\n\n: keep-alive")
    assert told == ["left"]
