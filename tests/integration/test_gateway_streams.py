"""Tokens through the gateway, as the API sends them: with an API that sends half of an answer, and waits."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import openai
import orjson
import pytest

from mira_queue import MiraQueue
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.raw_server import RawServer, Request, response
from tests.support.waiting import wait_until

PATIENCE_S = 60.0
HOUR = timedelta(hours=1)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class HalfApi:
    """An API whose answer is `one two`. Between the two words, it waits for `second_half`."""

    def __init__(self) -> None:
        self.second_half = threading.Event()
        self.breaks = 0
        self.calls = 0

    def reset(self) -> None:
        self.second_half.clear()
        self.breaks = self.calls = 0

    def answer(self, request: Request, connection: socket.socket) -> None:
        self.calls += 1
        if b"blocked" in request.body:
            connection.sendall(response(422, b'{"detail": "no"}'))
            return
        connection.sendall(HEAD + event("one "))
        if self.calls > self.breaks:
            self.second_half.wait(PATIENCE_S)
            end = event("", "stop") + b"data: [DONE]\n\n"
            connection.sendall(event("two") + end)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def event(text: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": reason}
    chunk = {"id": "theirs", "object": "chat.completion.chunk", "created": 1, "model": "mira", "choices": [choice]}
    return b"data: %b\n\n" % orjson.dumps(chunk)


@pytest.fixture(scope="module")
def half_api() -> HalfApi:
    return HalfApi()


@pytest.fixture(scope="module")
def gateway(half_api: HalfApi) -> Iterator[Gateway]:
    with RawServer(half_api.answer) as server, started_gateway(api_base=server.url) as running:
        yield running


@pytest.fixture
def api(half_api: HalfApi) -> HalfApi:
    half_api.reset()
    return half_api


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def texts(chunks: Any) -> Iterator[str]:
    return (text for chunk in chunks if chunk.choices and (text := chunk.choices[0].delta.content))


def test_tokens_arrive_before_the_answer_is_complete_and_the_outcome_is_whole(
    openai_client: openai.OpenAI, api: HalfApi
) -> None:
    stream = openai_client.chat.completions.create(model="mira", messages=ask("Hello"), stream=True)
    chunks = iter(stream)
    first = next(chunks)
    assert first.choices[0].delta.content == "one "
    api.second_half.set()
    rest = list(chunks)

    assert (list(texts(rest)), rest[-1].choices[0].finish_reason) == (["two"], "stop")
    stored = openai_client.chat.completions.retrieve(first.id)
    assert (stored.choices[0].message.content, api.calls) == ("one two", 1)


def test_an_answer_that_breaks_is_continued_by_the_next_attempt(openai_client: openai.OpenAI, api: HalfApi) -> None:
    api.breaks = 1
    api.second_half.set()

    chunks = list(openai_client.chat.completions.create(model="mira", messages=ask("Hello"), stream=True))

    assert ("".join(texts(chunks)), api.calls) == ("one two", 2)


def test_a_stream_that_fails_before_its_first_token_has_the_status_of_the_error(
    openai_client: openai.OpenAI, api: HalfApi
) -> None:
    with pytest.raises(openai.UnprocessableEntityError):
        openai_client.chat.completions.create(model="mira", messages=ask("blocked"), stream=True)


def test_the_text_of_a_response_arrives_in_pieces(openai_client: openai.OpenAI, api: HalfApi) -> None:
    events: Iterator[Any] = iter(
        openai_client.responses.create(model="mira", input="Hello", stream=True, background=True)
    )
    begun: list[Any] = []
    while not begun or begun[-1].type != "response.output_text.delta":
        begun.append(next(events))
    api.second_half.set()
    rest = list(events)

    response_id = begun[0].response.id
    again = list(openai_client.responses.retrieve(response_id, stream=True, starting_after=begun[-1].sequence_number))
    assert begun[-1].delta == "one "
    assert [event.delta for event in rest if event.type == "response.output_text.delta"] == ["two"]
    assert rest[-1].response.output_text == "one two"
    assert [event.type for event in again] == [event.type for event in rest]


def test_a_client_that_leaves_a_stream_before_it_begins_cancels_the_job(
    openai_client: openai.OpenAI, gateway: Gateway, api: HalfApi
) -> None:
    with MiraQueue(gateway.settings) as queue:
        body = orjson.dumps({"messages": ask("never"), "stream": True, "metadata": {"test": "left"}})
        lines = [
            "POST /v1/chat/completions HTTP/1.1",
            "Host: localhost",
            f"Authorization: Bearer {gateway.key}",
            f"Content-Length: {len(body)}",
        ]
        account = queue.accounts.current.id
        queue.ledger.open_breaker(account, HOUR, message="a test")
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
            wait_until("the job is accepted", lambda: queue.jobs(metadata={"test": "left"}))

        wait_until("it is cancelled", lambda: queue.jobs(state="cancelled", metadata={"test": "left"}))
        queue.ledger.probe_now(account)
        assert api.calls == 0
