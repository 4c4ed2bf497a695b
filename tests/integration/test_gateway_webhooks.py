"""Webhooks through the gateway, with the official SDK on both sides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import openai
import pytest

from mira_queue import MiraQueue
from mira_queue.contract.webhook import EVENT_TYPES, new_signing_secret
from tests.integration.test_gateway_batches import created, ended, line, lines
from tests.support.gateway_process import Gateway, started_gateway
from tests.support.ledger_steps import ACCOUNT, COMPLETION, claimed, new_job
from tests.support.raw_server import RawServer, Request, response
from tests.support.simulator_process import SimulatorProcess
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import LOCAL, receiver, unwrap

SECRET = new_signing_secret().get_secret_value()
TYPES: Any = ["response.completed", "response.failed", "batch.completed"]
OWN: dict[str, Any] = {"webhook_secret": SECRET, "webhook_hosts": ",".join(LOCAL), "webhook_timeout": "2"}


@pytest.fixture(scope="module")
def gateway(simulator_process: SimulatorProcess) -> Iterator[Gateway]:
    with started_gateway(api_base=simulator_process.url, **OWN) as running:
        yield running


@pytest.fixture
def server() -> Iterator[RawServer]:
    with receiver() as server:
        yield server


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """The SDK with the key of a new project, without endpoints."""
    with gateway.client() as client:
        yield client
        for endpoint in client.webhooks.list():
            client.webhooks.delete(endpoint.id)


def received(server: RawServer, secret: str, count: int = 1) -> list[Any]:
    wait_until("the events have arrived", lambda: len(server.requests) >= count)
    return [unwrap(request, secret) for request in server.requests]


def test_endpoints_are_managed_as_the_sdk_manages_them(client: openai.OpenAI, server: RawServer) -> None:
    first = client.webhooks.create(name="App", url=server.url, event_types=TYPES)
    assert first.signing_secret.startswith("whsec_")
    assert (first.name, first.url, first.event_types) == ("App", server.url, TYPES)
    others = [client.webhooks.create(name=f"n{n}", url=server.url, event_types=TYPES).id for n in range(3)]

    found = client.webhooks.retrieve(first.id)
    assert found.signing_secret_hint is not None
    assert found.signing_secret_hint.endswith(first.signing_secret[-4:])
    assert not hasattr(found, "signing_secret")
    assert {each.id for each in client.webhooks.list(limit=1)} == {first.id, *others}
    renamed = client.webhooks.update(first.id, name="Renamed")
    assert (renamed.name, renamed.url) == ("Renamed", server.url)
    assert client.webhooks.event_types.list().data == list(EVENT_TYPES)
    deleted = client.webhooks.delete(first.id)
    assert (deleted.id, deleted.deleted, deleted.object) == (first.id, True, "webhook_endpoint.deleted")
    for call in (client.webhooks.retrieve, client.webhooks.delete, client.webhooks.rotate_secret):
        with pytest.raises(openai.NotFoundError):
            call(first.id)


def test_a_create_that_is_repeated_creates_one_endpoint(client: openai.OpenAI, server: RawServer) -> None:
    again = {"Idempotency-Key": "the one endpoint"}
    first, second = (
        client.webhooks.create(name="App", url=server.url, event_types=TYPES, extra_headers=again) for _ in range(2)
    )

    assert first == second
    assert [each.id for each in client.webhooks.list()] == [first.id]


def test_another_project_does_not_see_an_endpoint(gateway: Gateway, client: openai.OpenAI, server: RawServer) -> None:
    endpoint = client.webhooks.create(name="App", url=server.url, event_types=TYPES)
    with gateway.client(gateway.create_key("other")) as other:
        assert other.webhooks.list().data == []
        with pytest.raises(openai.NotFoundError):
            other.webhooks.retrieve(endpoint.id)
        with pytest.raises(openai.BadRequestError):
            other.responses.create(input="Hello", background=True, extra_body={"mira": {"webhook": endpoint.id}})


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"url": "http://example.com/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"event_types": ["video.completed"]}, "event_types[0]"),
        ({"event_types": []}, "event_types"),
        ({"name": ""}, "name"),
    ],
)
def test_a_wrong_parameter_is_named(client: openai.OpenAI, changes: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as rejected:
        client.webhooks.create(**{"name": "App", "url": "https://example.com/", "event_types": TYPES, **changes})
    assert rejected.value.param == param


def test_a_sample_event_is_sent_at_once_and_its_status_returned(client: openai.OpenAI) -> None:
    with receiver(lambda _: response(202)) as server:
        endpoint = client.webhooks.create(name="App", url=server.url, event_types=TYPES)

        result = client.webhooks.test(endpoint.id, event_type="batch.completed")

        assert (result.status_code, result.success, result.webhook_endpoint_id) == (202, True, endpoint.id)
        (event,) = received(server, endpoint.signing_secret)
        assert event.type == "batch.completed"
    with pytest.raises(openai.InternalServerError) as unreachable:
        client.webhooks.test(endpoint.id, event_type="batch.completed")
    assert unreachable.value.code == "webhook_unreachable"


def test_a_background_response_reaches_the_endpoint_and_its_own_url(client: openai.OpenAI, server: RawServer) -> None:
    with receiver() as own:
        endpoint = client.webhooks.create(name="App", url=server.url, event_types=TYPES)
        job = client.responses.create(
            input="Hello", background=True, metadata={"tenant": "7"}, extra_body={"mira": {"webhook": own.url}}
        )
        # A client that waits for its answer needs no event.
        client.responses.create(input="Hello")

        for events in (received(server, endpoint.signing_secret), received(own, SECRET)):
            (event,) = events
            assert (event.type, event.data.id, event.data.metadata) == ("response.completed", job.id, {"tenant": "7"})
            assert client.responses.retrieve(event.data.id).output_text == "Simulated answer to: Hello"


def test_a_native_job_and_a_completion_reach_their_webhook(client: openai.OpenAI, server: RawServer) -> None:
    question = [{"role": "user", "content": "Hello"}]
    body = {"body": {"model": "mira", "messages": question}, "webhook": server.url}
    job: Any = client.post("/jobs", body=body, cast_to=object)
    completion = client.chat.completions.create(
        model="mira",
        messages=[{"role": "user", "content": "Hello"}],
        extra_headers={"Prefer": "respond-async"},
        extra_body={"mira": {"webhook": server.url}},
    )

    assert {event.data.id for event in received(server, SECRET, 2)} == {job["id"], completion.id}


def test_a_batch_reaches_the_endpoint_and_its_own_webhook(client: openai.OpenAI, server: RawServer) -> None:
    with receiver() as own:
        endpoint = client.webhooks.create(name="App", url=server.url, event_types=["batch.completed", "batch.failed"])
        batch = created(client, lines(3, "webhooks"), extra_body={"mira": {"webhook": own.url}})
        ended(client, batch.id)

        for events in (received(server, endpoint.signing_secret), received(own, SECRET)):
            assert [(event.type, event.data.id) for event in events] == [("batch.completed", batch.id)]
        with pytest.raises(openai.BadRequestError) as rejected:
            created(client, [line("a", "x")], extra_body={"mira": {"webhook": "http://example.com/"}})
        assert rejected.value.param == "mira.webhook"


def test_a_rotated_secret_signs_together_with_the_old_one_if_it_is_kept(
    client: openai.OpenAI, server: RawServer
) -> None:
    endpoint = client.webhooks.create(name="App", url=server.url, event_types=TYPES)
    rotated = client.webhooks.rotate_secret(endpoint.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != endpoint.signing_secret
    client.webhooks.test(endpoint.id, event_type="batch.completed")
    last = client.webhooks.rotate_secret(endpoint.id)
    client.webhooks.test(endpoint.id, event_type="batch.completed")

    both, only = server.requests
    assert unwrap(both, endpoint.signing_secret) == unwrap(both, rotated.signing_secret)
    unwrap(only, last.signing_secret)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrap(only, rotated.signing_secret)


def test_dead_deliveries_are_listed_for_their_project_and_sent_again(gateway: Gateway, client: openai.OpenAI) -> None:
    is_back = threading.Event()
    with receiver(lambda _: response(200 if is_back.is_set() else 410)) as server, MiraQueue(gateway.settings) as queue:
        job = replace(new_job(), webhook=server.url, project="default")
        queue.ledger.accept(ACCOUNT, [job])
        assert queue.ledger.finish(claimed(queue.ledger, job.id), COMPLETION)
        (dead,) = wait_until("it is dead", lambda: _dead(client))
        with gateway.client(gateway.create_key("strangers")) as other:
            assert _dead(other) == []
            with pytest.raises(openai.NotFoundError):
                other.post(f"/webhook_deliveries/{dead['id']}/resend", cast_to=object)
        assert (dead["attempts"], dead["last_result"], dead["event"]["data"]["id"]) == (1, "HTTP 410", job.id)

        is_back.set()
        again: Any = client.post(f"/webhook_deliveries/{dead['id']}/resend", cast_to=object)

        assert (again["id"], again["status"]) == (dead["id"], "pending")
        first, second = received(server, SECRET, 2)
        assert first.id == second.id
        assert _dead(client) == []
        listed: Any = client.get("/webhook_deliveries", cast_to=object)
        assert dead["id"] in [each["id"] for each in listed["data"]]
        with pytest.raises(openai.BadRequestError):
            client.get("/webhook_deliveries?state=lost", cast_to=object)


def _dead(client: openai.OpenAI) -> list[dict[str, Any]]:
    found: Any = client.get("/webhook_deliveries?state=dead", cast_to=object)
    data: list[dict[str, Any]] = found["data"]
    return data


def test_a_gateway_that_is_killed_during_an_attempt_loses_no_event(simulator_process: SimulatorProcess) -> None:
    go_on = threading.Event()

    def first_hangs(request: Request) -> bytes:
        if request.number == 0:
            go_on.wait(60)
        return response(200)

    with (
        receiver(first_hangs) as server,
        started_gateway(workers=0, api_base=simulator_process.url, **OWN) as gateway,
        MiraQueue(gateway.settings) as queue,
    ):
        job = replace(new_job(), webhook=server.url)
        queue.ledger.accept(ACCOUNT, [job])
        assert queue.ledger.finish(claimed(queue.ledger, job.id), COMPLETION)
        wait_until("an attempt is running", lambda: server.requests)
        gateway.process.kill()
        gateway.process.wait()

        log = gateway.cli.folder / "second.log"
        with gateway.cli.start("serve", "--port", "0", "--workers", "0", log=log) as second:
            try:
                events = received(server, SECRET, 2)
                assert len({event.id for event in events}) == 1
                assert events[1].data.id == job.id
                wait_until("nothing is left", lambda: not queue.ledger.due_receivers(10))
            finally:
                go_on.set()
                second.terminate()
                second.wait(60)
