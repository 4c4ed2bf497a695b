"""Deliveries of webhooks: each event that happened arrives, whatever receivers, gateways, and networks do."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import openai
import pytest
import redis
import structlog
from mira_producer.gateway.jobs.event_ids import object_id
from mira_producer.webhooks.deliverer import MAX_PER_RECEIVER, Deliverer
from mira_producer.webhooks.sender import Sender

from mira_queue import InvalidRequest, MiraQueue
from mira_queue.contract import names
from mira_queue.contract.batch import Batch, BatchOptions, BatchOrigin, BatchStatus, new_batch_id
from mira_queue.contract.delivery import WAITS, DeliveryState
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.contract.settings import Settings
from mira_queue.contract.webhook import (
    ENDPOINTS_ONLY,
    SigningSecret,
    WebhookEndpoint,
    endpoint_id_of,
    new_signing_secret,
)
from mira_queue.ledger.ledger import Ledger
from tests.support.ledger_steps import ACCOUNT, COMPLETION, FAILURE, LONG, PASSED, claimed, new_job
from tests.support.raw_server import RawServer, Request, response
from tests.support.waiting import wait_until
from tests.support.webhook_receiver import LOCAL, receiver, types_of, unwrap

PROJECT = "app1"
SECRET = new_signing_secret()
BOUND_S = 60
NOW_S = 1_800_000_000

Deliver = Callable[..., int]


@pytest.fixture
def server() -> Iterator[RawServer]:
    with receiver() as server:
        yield server


@pytest.fixture
def deliver(settings: Settings, ledger: Ledger, redis_client: redis.Redis) -> Iterator[Deliver]:
    """Does what a gateway does until nothing is due. Returns how many steps of it found work."""

    async def until_idle(hosts: tuple[str, ...]) -> int:
        own = settings.model_copy(
            update={"webhook_secret": SECRET, "webhook_hosts": hosts, "webhook_timeout": timedelta(seconds=5)}
        )
        async with Sender(own.webhook_hosts, own.webhook_timeout) as sender:
            deliverer = Deliverer(ledger, sender, own, structlog.get_logger(), object_id)
            count = 0
            while await deliverer.step():
                await deliverer.wait()
                count += 1
            return count

    yield lambda hosts=LOCAL: asyncio.run(asyncio.wait_for(until_idle(hosts), BOUND_S))
    for pattern in ("mira:delivery:*", "mira:receiver*", "mira:webhook-*", "mira:*deliveries*"):
        for key in redis_client.scan_iter(pattern):
            redis_client.delete(key)


def end(ledger: Ledger, webhook: str, outcome: Outcome = COMPLETION, *, project: str = PROJECT, **fields: Any) -> str:
    """Accept a job with a webhook, and finish it."""
    job = replace(new_job(), webhook=webhook, project=project, **fields)
    ledger.accept(ACCOUNT, [job])
    assert ledger.finish(claimed(ledger, job.id), outcome)
    return job.id


def add_endpoint(ledger: Ledger, server: RawServer, *event_types: str, project: str = PROJECT) -> WebhookEndpoint:
    endpoint = WebhookEndpoint(
        endpoint_id_of(new_job().id),
        project,
        "App",
        server.url,
        event_types or ("response.completed",),
        NOW_S,
        NOW_S,
        (SigningSecret(new_signing_secret()),),
    )
    ledger.add_endpoint(endpoint)
    return endpoint


def secret_of(endpoint: WebhookEndpoint) -> str:
    return endpoint.secrets[0].value.get_secret_value()


def hurry(client: redis.Redis) -> None:
    """Let the waits for the next attempts have passed, as if days had."""
    for key in (*client.scan_iter("mira:receiver:*"), names.WEBHOOK_RECEIVERS):
        for member, _ in client.zscan_iter(key):
            client.zadd(key, {member: 0}, xx=True)


def states(ledger: Ledger) -> list[DeliveryState]:
    return [each.state for each in ledger.recent_deliveries(PROJECT)]


# --- what is delivered ---


def test_the_end_of_a_job_reaches_its_own_webhook_signed_as_openai_signs(
    ledger: Ledger, server: RawServer, deliver: Deliver
) -> None:
    job_id = end(ledger, server.url, metadata={"tenant": "7"})

    deliver()

    (request,) = server.requests
    event = unwrap(request, SECRET.get_secret_value())
    assert (event.type, event.object, event.data.id) == ("response.completed", "event", job_id)
    assert request.headers["webhook-id"] == event.id
    assert event.data.metadata == {"tenant": "7"}
    assert event.data.mira == {"id": job_id, "code": None}
    with pytest.raises(openai.InvalidWebhookSignatureError):
        unwrap(request, new_signing_secret().get_secret_value())


def test_each_way_to_end_has_its_type(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    end(ledger, server.url, COMPLETION)
    end(ledger, server.url, Completion("Hi", "length", {}, {}))
    end(ledger, server.url, FAILURE)
    waiting = replace(new_job(), webhook=server.url, project=PROJECT)
    ledger.accept(ACCOUNT, [waiting])
    assert ledger.cancel(waiting.id)
    assert ledger.cancel(waiting.id)

    deliver()

    assert types_of(server, SECRET.get_secret_value()) == [
        f"response.{ending}" for ending in ("cancelled", "completed", "failed", "incomplete")
    ]


def test_a_retried_job_ends_twice_and_has_two_events(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    job_id = end(ledger, server.url, FAILURE)
    assert ledger.retry(job_id)
    assert ledger.finish(claimed(ledger, job_id), COMPLETION)

    deliver()

    assert types_of(server, SECRET.get_secret_value()) == ["response.completed", "response.failed"]
    assert len({request.headers["webhook-id"] for request in server.requests}) == 2
    cancelled = end(ledger, server.url, FAILURE)
    assert ledger.retry(cancelled)
    assert ledger.cancel(cancelled)
    deliver()
    assert len({request.headers["webhook-id"] for request in server.requests}) == 4


def test_a_finish_that_is_repeated_or_comes_too_late_has_no_second_event(
    ledger: Ledger, server: RawServer, deliver: Deliver
) -> None:
    job = replace(new_job(), webhook=server.url)
    ledger.accept(ACCOUNT, [job])
    held = claimed(ledger, job.id)
    assert ledger.finish(held, COMPLETION)
    assert ledger.finish(held, COMPLETION)
    assert not ledger.finish(replace(held, epoch=7), FAILURE)

    deliver()

    assert types_of(server, SECRET.get_secret_value()) == ["response.completed"]


def test_without_a_webhook_and_without_endpoints_nothing_is_written(
    ledger: Ledger, redis_client: redis.Redis, deliver: Deliver
) -> None:
    end(ledger, "")
    end(ledger, ENDPOINTS_ONLY)

    assert not redis_client.exists(names.WEBHOOK_EVENTS)
    assert deliver() == 0


def test_the_endpoints_of_a_project_receive_its_types_and_no_other_project_s(ledger: Ledger, deliver: Deliver) -> None:
    with receiver() as first, receiver() as second, receiver() as other:
        completed = add_endpoint(ledger, first, "response.completed", "batch.completed")
        both = add_endpoint(ledger, second, "response.completed", "response.failed")
        add_endpoint(ledger, other, "response.completed", project="app2")
        end(ledger, ENDPOINTS_ONLY, COMPLETION)
        end(ledger, ENDPOINTS_ONLY, FAILURE)
        # The endpoint is named by the job, whatever its types are.
        end(ledger, completed.id, FAILURE)

        deliver()

        assert types_of(first, secret_of(completed)) == ["response.completed", "response.failed"]
        assert types_of(second, secret_of(both)) == ["response.completed", "response.failed", "response.failed"]
        assert other.requests == []


def test_the_end_of_a_batch_is_one_event_however_often_it_is_written(
    ledger: Ledger, redis_client: redis.Redis, server: RawServer, deliver: Deliver
) -> None:
    batch = Batch(
        new_batch_id(), BatchStatus.IN_PROGRESS, "a.jsonl", "here:/a", NOW_S, BatchOptions(webhook=server.url)
    )
    ledger.write_batch(batch)
    done = batch.moved(BatchStatus.COMPLETED, NOW_S + 5)
    for each in (done, done, batch.moved(BatchStatus.IN_PROGRESS, NOW_S + 6), done):
        ledger.write_batch(each)

    deliver()

    # Run again by `retry`, it has ended twice.
    events = [unwrap(request, SECRET.get_secret_value()) for request in server.requests]
    assert [(event.type, event.data.id) for event in events] == [("batch.completed", batch.id)] * 2
    assert len({event.id for event in events}) == 2
    ledger.forget_batch(batch.id)


def test_a_batch_of_a_project_reaches_its_endpoints(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    endpoint = add_endpoint(ledger, server, "batch.failed", "batch.expired")
    for status in (BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED):
        batch = Batch(new_batch_id(), status, "a.jsonl", "here:/a", NOW_S, origin=BatchOrigin(PROJECT))
        ledger.write_batch(batch)

    deliver()

    assert types_of(server, secret_of(endpoint)) == ["batch.expired", "batch.failed"]


# --- attempts ---


def test_a_failed_attempt_is_repeated_with_the_same_id_and_body(
    ledger: Ledger, redis_client: redis.Redis, deliver: Deliver
) -> None:
    with receiver(lambda request: response(500) if request.number < 2 else response(204)) as server:
        end(ledger, server.url)
        deliver()
        assert len(server.requests) == 1
        for _ in range(3):
            hurry(redis_client)
            deliver()

        assert len(server.requests) == 3
        assert len({(request.headers["webhook-id"], request.body) for request in server.requests}) == 1
        unwrap(server.requests[-1], SECRET.get_secret_value())


def test_after_its_last_attempt_a_delivery_is_listed_as_dead_and_can_be_sent_again(
    ledger: Ledger, redis_client: redis.Redis, deliver: Deliver
) -> None:
    is_well = threading.Event()
    with receiver(lambda _: response(200 if is_well.is_set() else 404)) as server:
        end(ledger, server.url)
        for _ in WAITS:
            deliver()
            hurry(redis_client)
        assert deliver() == 0
        assert len(server.requests) == len(WAITS)
        (dead,) = ledger.dead_deliveries(PROJECT)
        assert (dead.attempts, dead.result, dead.target) == (len(WAITS), "HTTP 404", server.url)
        assert ledger.dead_deliveries("app2") == []
        assert ledger.dead_delivery(dead.id) == dead

        is_well.set()
        assert ledger.resend_delivery(dead)
        assert not ledger.resend_delivery(dead)
        assert ledger.dead_delivery(dead.id) is None
        deliver()

        assert len(server.requests) == len(WAITS) + 1
        assert ledger.dead_deliveries(PROJECT) == []
        assert states(ledger) == [DeliveryState.DELIVERED]


def test_a_slow_receiver_delays_no_other(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    go_on = threading.Event()

    def slowly(_: Request) -> bytes:
        go_on.wait(BOUND_S)
        return response(200)

    with receiver(slowly) as slow:
        for _ in range(3 * MAX_PER_RECEIVER):
            end(ledger, slow.url)
        end(ledger, server.url)
        delivering = threading.Thread(target=deliver)
        delivering.start()
        wait_until("the fast one has its delivery", lambda: server.requests)
        assert len(slow.requests) <= MAX_PER_RECEIVER
        go_on.set()
        delivering.join()
        assert len(slow.requests) == 3 * MAX_PER_RECEIVER


def test_an_overloaded_receiver_gets_nothing_until_its_retry_after_has_passed(
    ledger: Ledger, redis_client: redis.Redis, server: RawServer, deliver: Deliver
) -> None:
    with receiver(lambda _: response(429, b"", "Retry-After: 1000")) as busy:
        end(ledger, busy.url)
        deliver()
        end(ledger, busy.url)
        end(ledger, server.url)
        hurry(redis_client)
        deliver()

        assert (len(busy.requests), len(server.requests)) == (1, 1)
        (key,) = redis_client.scan_iter("mira:receiver-pause:*")
        assert 990_000 < redis_client.pttl(key) <= 1_000_000


def test_a_410_disables_the_endpoint(ledger: Ledger, deliver: Deliver) -> None:
    with receiver(lambda _: response(410)) as gone:
        endpoint = add_endpoint(ledger, gone)
        end(ledger, ENDPOINTS_ONLY)
        deliver()
        end(ledger, ENDPOINTS_ONLY)
        deliver()

        assert len(gone.requests) == 1
        disabled = ledger.endpoint(PROJECT, endpoint.id)
        assert disabled is not None
        assert disabled.disabled == "HTTP 410"
        assert [dead.result for dead in ledger.dead_deliveries(PROJECT)] == ["HTTP 410"]


def test_a_deleted_endpoint_receives_nothing_more(ledger: Ledger, redis_client: redis.Redis, deliver: Deliver) -> None:
    with receiver(lambda _: response(500)) as failing:
        endpoint = add_endpoint(ledger, failing)
        end(ledger, ENDPOINTS_ONLY)
        deliver()
        assert ledger.delete_endpoint(PROJECT, endpoint.id)
        hurry(redis_client)
        deliver()

        assert len(failing.requests) == 1
        assert not list(redis_client.scan_iter("mira:delivery:*"))
        assert not redis_client.exists(names.WEBHOOK_RECEIVERS)


def test_a_redirect_is_a_failure_and_not_followed(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    with receiver(lambda _: response(302, b"", f"Location: {server.url}")) as redirecting:
        end(ledger, redirecting.url)
        deliver()

        assert (len(redirecting.requests), server.requests) == (1, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "2130706433"])
def test_a_private_address_is_not_called_whatever_its_name_is(
    host: str, ledger: Ledger, redis_client: redis.Redis, server: RawServer, deliver: Deliver
) -> None:
    end(ledger, f"https://{host}:{server.port}/")

    deliver(hosts=())

    assert server.connections == 0
    (key,) = redis_client.scan_iter("mira:delivery:*")
    result: Any = redis_client.hget(key, "result")
    # Other spellings of an address are no host.
    assert b"public" in result or b"192.0.2.1" in result


def test_a_receiver_that_breaks_the_connection_or_answers_nonsense_is_a_failure(
    ledger: Ledger, redis_client: redis.Redis, deliver: Deliver
) -> None:
    answers = [b"", b"nonsense\r\n\r\n", response(500, b"x" * 100_000), response(200)]

    def answer(request: Request, connection: socket.socket) -> None:
        connection.sendall(answers[request.number])
        connection.shutdown(socket.SHUT_RDWR)

    with RawServer(answer) as server:
        end(ledger, server.url)
        for _ in answers:
            deliver()
            hurry(redis_client)

        assert len(server.requests) == len(answers)
        assert states(ledger) == [DeliveryState.DELIVERED]


def test_a_gateway_that_is_killed_during_an_attempt_loses_no_delivery(
    ledger: Ledger, server: RawServer, deliver: Deliver
) -> None:
    end(ledger, server.url)
    events = ledger.webhook_events(10)
    assert ledger.expand_events([(events[0], [server.url])], 10) == (1, [])
    # Another gateway has seen the same event.
    assert ledger.expand_events([(events[0], [server.url])], 10) == (0, [])
    (receiver_name,) = ledger.due_receivers(10)
    # Its lease has passed, and nothing was settled.
    assert len(ledger.claim_deliveries([(receiver_name, 10)], PASSED)) == 1

    deliver()

    assert len(server.requests) == 1


def test_two_gateways_do_not_claim_the_same_delivery_and_a_late_result_changes_nothing(
    ledger: Ledger, server: RawServer, redis_client: redis.Redis, deliver: Deliver
) -> None:
    end(ledger, server.url)
    ledger.expand_events([(event, [server.url]) for event in ledger.webhook_events(10)], 10)
    (name,) = ledger.due_receivers(10)
    (claim,) = ledger.claim_deliveries([(name, 10)], LONG)
    assert ledger.claim_deliveries([(name, 10)], LONG) == []
    assert ledger.postpone_delivery(claim, "HTTP 500", PASSED, PASSED)
    assert not ledger.postpone_delivery(claim, "HTTP 500", LONG, LONG)

    deliver()

    assert len(server.requests) == 1
    assert not ledger.postpone_delivery(claim, "HTTP 500", PASSED, PASSED)
    assert not ledger.bury_delivery(claim, "HTTP 500")
    assert states(ledger) == [DeliveryState.DELIVERED]


def test_a_receiver_with_too_many_deliveries_gets_dead_ones_that_can_be_sent_again(
    ledger: Ledger, server: RawServer, deliver: Deliver
) -> None:
    for _ in range(5):
        end(ledger, server.url)
    _, dead = ledger.expand_events([(event, [server.url]) for event in ledger.webhook_events(10)], 3)

    assert len(dead) == 2
    assert all("MIRA_WEBHOOK_MAX_WAITING" in each.result for each in dead)
    assert {each.id for each in ledger.dead_deliveries(PROJECT)} == {each.id for each in dead}
    deliver()
    assert len(server.requests) == 3
    assert all(map(ledger.resend_delivery, dead))
    deliver()
    assert len(server.requests) == 5
    assert states(ledger) == [DeliveryState.DELIVERED] * 5


def test_recent_deliveries_are_listed_with_what_became_of_them_page_by_page(ledger: Ledger, deliver: Deliver) -> None:
    answers = [200, 500, 410]
    with receiver(lambda request: response(answers[request.number])) as server:
        for _ in answers:
            end(ledger, server.url)
            deliver()
        url = server.url

    found = ledger.recent_deliveries(PROJECT)

    assert [(each.state, each.attempts, each.result) for each in found] == [
        (DeliveryState.DEAD, 1, "HTTP 410"),
        (DeliveryState.PENDING, 1, "HTTP 500"),
        (DeliveryState.DELIVERED, 1, "HTTP 200"),
    ]
    assert found[1].due_ms is not None
    assert found[1].attempted_ms is not None
    assert found[1].due_ms > found[1].attempted_ms >= found[1].created_ms
    for state, expected in zip(("dead", "pending", "delivered"), found, strict=True):
        assert ledger.recent_deliveries(PROJECT, state=DeliveryState(state)) == [expected]
    first = ledger.recent_deliveries(PROJECT, limit=2)
    assert first + ledger.recent_deliveries(PROJECT, after=first[-1].id) == found
    with pytest.raises(InvalidRequest):
        ledger.recent_deliveries("app2", after=first[-1].id)
    end(ledger, url, project="app2")
    ledger.expand_events([(event, [url]) for event in ledger.webhook_events(10)], 10)
    assert [each.event.project for each in ledger.recent_deliveries()] == ["app2", PROJECT, PROJECT, PROJECT]


def test_the_list_of_recent_deliveries_is_bounded_and_older_ones_leave_nothing_behind(
    ledger: Ledger, redis_client: redis.Redis, server: RawServer, deliver: Deliver
) -> None:
    end(ledger, server.url)
    ledger.expand_events([(event, [server.url]) for event in ledger.webhook_events(10)], 10)
    key = names.deliveries_key(PROJECT)
    redis_client.zadd(key, {f"newer-{number}": 10**15 for number in range(names.MAX_RECENT_DELIVERIES)})
    end(ledger, server.url)
    ledger.expand_events([(event, [server.url]) for event in ledger.webhook_events(10)], 10)

    assert redis_client.zcard(key) == names.MAX_RECENT_DELIVERIES
    deliver()

    assert len(server.requests) == 2
    assert not list(redis_client.scan_iter("mira:delivery:*"))


def test_during_a_rotation_both_secrets_verify(ledger: Ledger, server: RawServer, deliver: Deliver) -> None:
    before = add_endpoint(ledger, server)
    after = ledger.change_endpoint(PROJECT, before.id, lambda each: each.rotated(2_000_000_000, keep_old=True))
    assert after is not None
    end(ledger, ENDPOINTS_ONLY)

    deliver()

    (request,) = server.requests
    assert unwrap(request, secret_of(before)) == unwrap(request, secret_of(after))


# --- the clients ---


def test_the_client_gives_a_job_its_webhook_or_says_what_is_wrong(
    settings: Settings, server: RawServer, deliver: Deliver
) -> None:
    changes = {"webhook_secret": SECRET, "webhook_hosts": LOCAL}
    question = [{"role": "user", "content": "Hello"}]
    with MiraQueue(settings.model_copy(update=changes)) as queue:
        job = queue.enqueue(question, webhook=server.url)
        (other,) = queue.enqueue_many([{"messages": question}], webhook=server.url)
        job.cancel()
        other.cancel()
        for wrong in ("http://example.com/", "https://10.0.0.1/", "we_" + "0" * 24, 5):
            with pytest.raises(InvalidRequest) as rejected:
                queue.enqueue(question, webhook=wrong)  # type: ignore[arg-type]
            assert rejected.value.field == "webhook"
    with MiraQueue(settings) as queue, pytest.raises(InvalidRequest, match="MIRA_WEBHOOK_SECRET"):
        queue.enqueue(question, webhook="https://example.com/")

    deliver()

    assert types_of(server, SECRET.get_secret_value()) == ["response.cancelled"] * 2
