"""What people are told of accounts: which there are, and when the next call leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.pace import ConfiguredLimits
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from tests.support.ledger_steps import ask, running

# One call in ten minutes.
RARELY = ConfiguredLimits(rate=1, window_ms=600_000)


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as client:
        yield Ledger(client, result_ttl=timedelta(minutes=1))


def test_the_view_says_when_the_next_call_leaves(ledger: Ledger) -> None:
    _, (permit,) = ask(ledger, running(ledger), configured=RARELY)
    assert permit.verdict == "go"
    assert ledger.pace_view("an-account").next_in == timedelta(0)

    pace, (permit,) = ask(ledger, running(ledger), configured=RARELY)
    assert permit.verdict == "wait"

    view = ledger.pace_view("an-account")
    assert view.waiting == 1
    assert timedelta(0) < view.next_in <= timedelta(milliseconds=pace.wait_ms)
    assert view.next_in > timedelta(minutes=9)


def test_an_account_is_listed_until_a_week_after_its_last_worker(ledger: Ledger, redis_client: redis.Redis) -> None:
    for account in ("gone", "used"):
        ledger.report_alive(account, "https://api.example/v1", timedelta(minutes=1))
    eight_days_ms = 8 * 86_400_000
    for account in ("gone", "used"):
        redis_client.zincrby(names.ACCOUNTS, -eight_days_ms, account)

    ledger.report_alive("used", "https://api.example/v1", timedelta(minutes=1))

    assert ledger.accounts() == ["used"]


def test_a_breaker_that_is_open_for_longer_than_a_week_stays_so_when_a_worker_comes(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    ledger.open_breaker("an-account", timedelta(days=30))

    ledger.report_alive("an-account", "https://api.example/v1", timedelta(minutes=1))

    assert redis_client.ttl(names.pace_key("an-account")) > 30 * 86_400
