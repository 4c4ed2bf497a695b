"""What people are told of an account: when the next call leaves."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from mira_queue.contract.pace import Told
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from tests.ledger_steps import ask, running

# One call in ten minutes.
RARELY = Told(rate=1, window_ms=600_000)


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as client:
        yield Ledger(client, result_ttl=timedelta(minutes=1))


def test_the_view_says_when_the_next_call_leaves(ledger: Ledger) -> None:
    _, (permit,) = ask(ledger, running(ledger), told=RARELY)
    assert permit.verdict == "go"
    assert ledger.pace_view("an-account").next_in == timedelta(0)

    pace, (permit,) = ask(ledger, running(ledger), told=RARELY)
    assert permit.verdict == "wait"

    view = ledger.pace_view("an-account")
    assert view.waiting == 1
    assert timedelta(0) < view.next_in <= timedelta(milliseconds=pace.wait_ms)
    assert view.next_in > timedelta(minutes=9)
