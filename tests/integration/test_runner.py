"""One job in one thread, without Celery: what is left behind where something fails that nobody foresaw."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import redis
import structlog
from mira_worker.leases import LeaseKeeper
from mira_worker.pacing.pacer import Pacer
from mira_worker.runner import JobRunner
from mira_worker.transport import HttpAnswer

from mira_queue.contract import names
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints
from tests.support.ledger_steps import COMPLETION, LIFE, MANY, accepted

ACCOUNT = "an-account"


class Broken(Exception):
    """A defect of ours, or of a library."""


class BrokenTransport:
    def post(self, body: bytes) -> HttpAnswer:
        raise Broken


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Iterator[Ledger]:
    yield Ledger(redis_client, result_ttl=LIFE)
    redis_client.delete(*redis_client.keys(f"*{ACCOUNT}*"))


def test_a_call_that_failed_as_nobody_foresaw_gives_its_place_back(
    ledger: Ledger, redis_client: redis.Redis, settings: Settings
) -> None:
    log, stopping = structlog.get_logger(), threading.Event()
    pacer = Pacer(ledger, ACCOUNT, MANY, probe_lease=timedelta(seconds=5), stopping=stopping, log=log)
    leases = LeaseKeeper(ledger, timedelta(minutes=1), log)
    transport = BrokenTransport()
    runner = JobRunner(settings, ledger, pacer, leases, transport, None, stopping, log, CrashPoints(""))
    job_id = accepted(ledger)
    [lease] = runner.claim([job_id])

    with pytest.raises(Broken):
        runner.run_claimed(job_id, lease)
    pacer.renew_permits()

    assert redis_client.zcard(names.in_flight_key(ACCOUNT)) == 0
    assert pacer._in_flight == {}
    assert ledger.finish(lease, COMPLETION)  # type: ignore[arg-type]
