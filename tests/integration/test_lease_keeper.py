"""The heartbeat of a worker, on a real server: what it says of leases that it cannot extend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import capture_logs

from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from tests.ledger_steps import COMPLETION, LIFE, LONG, PASSED, begun
from worker.leases import LeaseKeeper


@pytest.fixture
def ledger(redis_url: str) -> Iterator[Ledger]:
    with connect(redis_url) as client:
        yield Ledger(client, result_ttl=LIFE)


def test_a_job_that_ends_while_the_heart_beats_has_not_lost_its_lease(ledger: Ledger) -> None:
    keeper = LeaseKeeper(ledger, LONG, structlog.get_logger("test"))
    held = begun(ledger)
    keeper.hold(held)
    with capture_logs() as said:
        # Its end is stored, and its thread does not know it yet.
        assert ledger.finish(held, COMPLETION)
        keeper.beat()
        keeper.release(held)
        keeper.beat()
        keeper.beat()

    assert said == []


def test_a_lease_that_somebody_else_has_now_is_said_to_be_lost_once(ledger: Ledger) -> None:
    keeper = LeaseKeeper(ledger, LONG, structlog.get_logger("test"))
    held = begun(ledger, PASSED)
    keeper.hold(held)
    assert ledger.rescue(held.job_id, 3, LONG) is True
    with capture_logs() as said:
        for _ in range(4):
            keeper.beat()

    assert [(entry["event"], entry["job_id"]) for entry in said] == [("lease_lost", held.job_id)]
    assert keeper.held() == []
