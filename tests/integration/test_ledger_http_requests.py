"""Requests of gateways in the ledger: which one a retry repeats, and when that is known."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
import redis

from mira_queue.contract import names
from mira_queue.ledger.http_requests import Loss, OpenRequest
from mira_queue.ledger.ledger import Ledger

PLACE = names.recent_requests_key("key_1", "digest")
OURS, THEIRS = "gateway-1", "gateway-2"


def begun(ledger: Ledger, gateway: str = OURS, *, retry_count: int = 0, has_time: bool = True) -> OpenRequest | None:
    return ledger.begin_http_request(PLACE, str(uuid.uuid4()), gateway, retry_count=retry_count, has_time=has_time)


def first(ledger: Ledger, gateway: str = OURS) -> OpenRequest:
    request = begun(ledger, gateway)
    assert request is not None
    return request


def test_a_retry_gets_the_identity_of_a_lost_request_and_only_one_retry_does(ledger: Ledger) -> None:
    lost = first(ledger)
    ledger.lose_http_requests([Loss(lost)])

    found, other = begun(ledger, THEIRS, retry_count=1, has_time=False), begun(ledger, retry_count=1, has_time=False)

    assert found is not None
    assert other is not None
    assert found.identity == lost.identity != other.identity


def test_a_retry_that_is_lost_is_found_by_the_next_one(ledger: Ledger) -> None:
    lost = first(ledger)
    ledger.lose_http_requests([Loss(lost)])
    retry = begun(ledger, retry_count=1)
    assert retry is not None
    ledger.lose_http_requests([Loss(retry)])
    # The end of the first request, reported late, changes nothing.
    ledger.lose_http_requests([Loss(lost)])

    again, another = begun(ledger, retry_count=1), begun(ledger, retry_count=1)

    assert again is not None
    assert another is not None
    assert again.identity == lost.identity != another.identity


@pytest.mark.parametrize("is_received", [True, False])
def test_a_request_whose_connection_is_open_or_that_was_answered_is_not_repeated(
    ledger: Ledger, *, is_received: bool
) -> None:
    request = first(ledger)
    if is_received:
        ledger.end_http_requests([request])

    found = begun(ledger, retry_count=1)

    assert found is not None
    assert found.identity != request.identity


def test_a_retry_waits_for_the_handler_of_the_request_that_it_repeats(ledger: Ledger) -> None:
    lost = first(ledger)
    ledger.lose_http_requests([Loss(lost, None)])
    assert begun(ledger, retry_count=1) is None
    assert begun(ledger, THEIRS, retry_count=1, has_time=False) is None

    ledger.lose_http_requests([Loss(lost)])
    found = begun(ledger, THEIRS, retry_count=1)

    assert found is not None
    assert found.identity == lost.identity


def test_a_retry_finds_the_request_of_a_gateway_that_has_stopped(ledger: Ledger, redis_client: redis.Redis) -> None:
    lost = first(ledger)
    # It may still live: whether it does, its lease tells later.
    assert begun(ledger, THEIRS, retry_count=1) is None
    redis_client.zadd(names.GATEWAYS, {OURS: ledger._now_ms() - 1})

    found = begun(ledger, THEIRS, retry_count=1)

    assert found is not None
    assert found.identity == lost.identity


def test_a_retry_after_ten_minutes_is_another_request(ledger: Ledger, redis_client: redis.Redis) -> None:
    late = first(ledger)
    ledger.lose_http_requests([Loss(late)])
    redis_client.zincrby(PLACE, -600_000, late.entry)

    found = begun(ledger, retry_count=1)

    assert found is not None
    assert found.identity != late.identity


def test_a_certain_loss_is_found_before_a_doubtful_one(ledger: Ledger) -> None:
    doubtful, certain = first(ledger), first(ledger)
    ledger.lose_http_requests([Loss(doubtful, timedelta(seconds=10)), Loss(certain)])

    found = [begun(ledger, retry_count=1) for _ in range(2)]

    assert [each.identity for each in found if each] == [certain.identity, doubtful.identity]


def test_a_doubtful_loss_is_recognized_for_longer_by_a_later_retry(ledger: Ledger, redis_client: redis.Redis) -> None:
    doubtful = first(ledger)
    ledger.lose_http_requests([Loss(doubtful, names.DOUBTFUL_WITHIN)])
    # The first retries found no gateway, which was starting for that long.
    redis_client.zincrby(PLACE, -2.5 * names.DOUBTFUL_WITHIN.total_seconds() * 1000, doubtful.entry)

    too_late, found = begun(ledger, retry_count=2), begun(ledger, retry_count=3)

    assert too_late is not None
    assert found is not None
    assert found.identity == doubtful.identity != too_late.identity


def test_a_call_that_is_repeated_because_its_response_was_lost_counts_once(ledger: Ledger) -> None:
    ledger.lose_http_requests([Loss(first(ledger)), Loss(first(ledger))])
    name = str(uuid.uuid4())

    answers = {ledger.begin_http_request(PLACE, name, OURS, retry_count=1, has_time=True) for _ in range(2)}

    (answer,) = answers
    assert answer is not None
    assert answer.identity != name


def test_an_idempotency_key_belongs_to_one_request_until_that_was_wrong(ledger: Ledger) -> None:
    place = names.http_idempotency_key("app", "key")

    assert ledger.claim_http_key(place, "one", "digest") == "one"
    assert ledger.claim_http_key(place, "two", "digest") == "one"
    assert ledger.claim_http_key(place, "two", "other") is None
    ledger.free_http_key(place, "two", "digest")
    assert ledger.claim_http_key(place, "two", "other") is None
    ledger.free_http_key(place, "one", "digest")
    assert ledger.claim_http_key(place, "two", "other") == "two"
