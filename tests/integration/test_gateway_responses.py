"""`/v1/responses` through a socket, with the official SDK."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from mira_queue import MiraQueue
from tests.support.gateway_process import Gateway
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("simulator")


def ended(client: openai.OpenAI, response: Any) -> Any:
    def look() -> Any:
        found = client.responses.retrieve(response.id)
        return found if found.status not in ("queued", "in_progress") else None

    return wait_until("the response has finished", look)


def test_a_background_response_is_queued_retrieved_and_has_its_text(openai_client: openai.OpenAI) -> None:
    created = openai_client.responses.create(
        model="mira", input="Hello", instructions="Be brief.", background=True, metadata={"tenant": "7"}
    )
    found = ended(openai_client, created)

    assert (created.status, created.background, created.output_text) == ("queued", True, "")
    assert (found.id, found.status, found.output_text) == (created.id, "completed", "Simulated answer to: Hello")
    assert (found.model, found.metadata, found.instructions) == ("mira", {"tenant": "7"}, "Be brief.")
    assert found.usage.total_tokens == found.usage.input_tokens + found.usage.output_tokens > 0
    assert found.completed_at >= found.created_at


def test_a_response_without_background_has_its_answer(openai_client: openai.OpenAI) -> None:
    response = openai_client.responses.create(input=[{"role": "user", "content": "Hello"}], store=False)

    assert (response.status, response.output_text) == ("completed", "Simulated answer to: Hello")
    assert (response.model_extra or {})["store"] is False
    with pytest.raises(openai.NotFoundError):
        openai_client.responses.retrieve(response.id)


def test_a_response_that_is_not_to_be_stored_is_not_when_it_was_streamed_or_has_failed(gateway: Gateway) -> None:
    client = gateway.client(gateway.create_key("unstored"))

    events: list[Any] = list(client.responses.create(input="Hello", stream=True, store=False))
    failed: list[Any] = list(client.responses.create(input="[[sim:422]]", stream=True, store=False))
    with pytest.raises(openai.UnprocessableEntityError):
        client.responses.create(input="[[sim:422]]", store=False)

    assert {each.response.store for each in (events[0], events[-1], failed[-1])} == {False}
    assert (events[-1].type, failed[-1].type) == ("response.completed", "response.failed")
    assert client.get("/jobs", cast_to=dict[str, Any])["data"] == []


def test_a_response_that_is_not_to_be_stored_is_not_when_its_client_disconnects(gateway: Gateway) -> None:
    client = gateway.client(gateway.create_key("gone"))
    with MiraQueue(gateway.settings) as queue:
        stream = client.responses.create(input="[[sim:429x1 retry-after=3600]]", stream=True, store=False)
        (job,) = wait_until(
            "the job waits",
            lambda: client.get("/jobs", cast_to=dict[str, Any], options={"params": {"state": "waiting"}})["data"],
        )

        stream.close()

        wait_until("it is forgotten", lambda: not client.get("/jobs", cast_to=dict[str, Any])["data"])
        queue.ledger.probe_now(job["account"])


def test_a_failed_response_has_the_error_and_one_that_is_waited_for_raises_it(openai_client: openai.OpenAI) -> None:
    found = ended(openai_client, openai_client.responses.create(input="[[sim:422]]", background=True))

    assert (found.status, found.error.code, found.output) == ("failed", "unprocessable", [])
    with pytest.raises(openai.UnprocessableEntityError) as failed:
        openai_client.responses.create(input="[[sim:422]]")
    assert failed.value.code == "unprocessable"


def test_a_response_can_be_cancelled_and_deleted(openai_client: openai.OpenAI, simulator: SimulatorProcess) -> None:
    response = openai_client.responses.create(input="[[sim:slow=3]] Hello", background=True)

    cancelled = openai_client.responses.cancel(response.id)
    openai_client.responses.delete(response.id)

    assert (cancelled.status, cancelled.output) == ("cancelled", [])
    with pytest.raises(openai.NotFoundError) as missing:
        openai_client.responses.retrieve(response.id)
    assert missing.value.code == "not_found"


def test_the_events_of_a_response_continue_where_a_client_left(openai_client: openai.OpenAI) -> None:
    response = openai_client.responses.create(input="Hello", background=True)

    events = list(openai_client.responses.retrieve(response.id, stream=True))
    rest = list(openai_client.responses.retrieve(response.id, stream=True, starting_after=3))

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == "Simulated answer to: Hello"
    assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == "Simulated answer to: Hello"
    assert [event.type for event in rest] == [event.type for event in events[4:]]


def test_a_response_is_streamed_when_it_is_created(openai_client: openai.OpenAI) -> None:
    with openai_client.responses.stream(model="mira", input="Hello") as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_response()

    assert "response.output_text.delta" in kinds
    assert final.output_text == "Simulated answer to: Hello"


def test_an_unsupported_parameter_is_named(openai_client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as rejected:
        openai_client.responses.create(input="Hello", previous_response_id="resp_1")

    assert (rejected.value.code, rejected.value.param) == ("unsupported_parameter", "previous_response_id")


def test_another_project_does_not_see_a_response(gateway: Gateway, openai_client: openai.OpenAI) -> None:
    mine, theirs = (gateway.client(gateway.create_key(name)) for name in ("mine", "theirs"))
    response = mine.responses.create(input="Hello", background=True)

    with pytest.raises(openai.NotFoundError):
        theirs.responses.retrieve(response.id)
    with pytest.raises(openai.NotFoundError):
        theirs.responses.cancel(response.id)
    assert ended(openai_client, response).output_text == "Simulated answer to: Hello"
    for client in (mine, theirs):
        client.close()
