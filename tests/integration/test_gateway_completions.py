"""`/v1/chat/completions` and `/v1/models` through a socket, with the official SDK."""

from __future__ import annotations

import socket
from typing import Any

import openai
import orjson
import pytest

from mira_queue import JobState, MiraQueue
from tests.support.gateway_process import Gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("simulator")


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_a_completion_is_the_answer_and_can_be_retrieved(openai_client: openai.OpenAI) -> None:
    completion = openai_client.chat.completions.create(model="mira", messages=ask("Hello"))
    again = openai_client.chat.completions.retrieve(completion.id)

    assert completion.choices[0].message.content == "Simulated answer to: Hello"
    assert (again.id, again.choices, again.usage) == (completion.id, completion.choices, completion.usage)


def test_a_request_waits_through_a_limit(openai_client: openai.OpenAI, simulator: SimulatorProcess) -> None:
    completion = openai_client.chat.completions.create(model="mira", messages=ask("[[sim:429x1 retry-after=1]] Hi"))

    assert completion.choices[0].message.content is not None
    assert simulator.stats()["calls"] == 2


def test_a_failed_completion_is_the_error_of_its_status(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as failed:
        openai_client.chat.completions.create(model="mira", messages=ask("[[sim:422]]"))

    assert failed.value.code == "unprocessable"


def test_a_client_that_does_not_want_to_wait_gets_the_place_of_the_answer(openai_client: openai.OpenAI) -> None:
    raw = openai_client.chat.completions.with_raw_response.create(
        model="mira", messages=ask("[[sim:slow=1]] Hello"), extra_headers={"Prefer": "respond-async"}
    )
    accepted = raw.parse()
    waited = openai_client.chat.completions.create(
        model="mira", messages=ask("Hello"), extra_headers={"Prefer": "respond-async, wait=30"}
    )

    assert 1000 <= int(raw.headers["openai-poll-after-ms"]) <= 120_000
    assert (raw.status_code, raw.headers["location"]) == (202, f"/v1/chat/completions/{accepted.id}")
    assert accepted.choices == []
    assert waited.choices[0].message.content == "Simulated answer to: Hello"
    wait_until("it is answered", lambda: openai_client.chat.completions.retrieve(accepted.id).choices)


def test_a_client_that_disconnects_cancels_what_has_not_started(gateway: Gateway) -> None:
    with MiraQueue(gateway.settings) as queue:
        body = orjson.dumps({"messages": ask("[[sim:429x1 retry-after=3600]]"), "metadata": {"test": "gone"}})
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x.localhost\r\nAuthorization: Bearer {gateway.key}\r\n"
        head = head.replace("x.localhost", "localhost") + f"Content-Length: {len(body)}\r\n\r\n"
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(head.encode() + body)
            wait_until("the job waits", lambda: queue.jobs(state="waiting", metadata={"test": "gone"}))

        [job] = wait_until("it is cancelled", lambda: queue.jobs(state="cancelled", metadata={"test": "gone"}))
        assert job.state is JobState.CANCELLED
        queue.ledger.probe_now(job.account)


def test_flex_runs_after_interactive_jobs(openai_client: openai.OpenAI, gateway: Gateway) -> None:
    completion = openai_client.chat.completions.create(model="mira", messages=ask("Hello"), service_tier="flex")

    assert completion.choices[0].message.content == "Simulated answer to: Hello"
    with MiraQueue(gateway.settings) as queue:
        assert queue.jobs(limit=1)[0].priority == "low"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"extra_body": {"countdown": 60}}, "countdown"),
        ({"service_tier": "x"}, "service_tier"),
    ],
)
def test_what_cannot_be_done_is_named(openai_client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as rejected:
        openai_client.chat.completions.create(model="mira", messages=ask("Hello"), **fields)

    assert rejected.value.param == param


def test_models_are_those_of_the_account(openai_client: openai.OpenAI) -> None:
    assert [model.id for model in openai_client.models.list()] == ["mira"]
    assert openai_client.models.retrieve("mira").object == "model"
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("another")
