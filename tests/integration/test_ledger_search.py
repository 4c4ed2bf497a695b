"""Searches of recent single jobs: bounded pieces, exact counts, and filters by model and age, on a real server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.listed_jobs import Place
from tests.support.ledger_steps import ACCOUNT, COMPLETION, FAILURE, accepted, ended, new_job, running, waiting

MESSAGES = [{"role": "user", "content": "Hello"}]


def found(ledger: Ledger, **wanted: Any) -> list[str]:
    return [job.id for job in ledger.search(JobFilter.checked(**wanted), None, 100).jobs]


def test_jobs_are_found_by_model_and_by_age(ledger: Ledger, redis_client: redis.Redis) -> None:
    request = ChatRequest.checked({"messages": MESSAGES}, model="mira-pro", limits=MIRA_LIMITS)
    [pro] = ledger.accept(ACCOUNT, [replace(new_job(), request=request)])
    old, now = accepted(ledger), datetime.now(UTC)
    redis_client.zadd(names.listed_key("open"), {old: 1000})
    redis_client.hset(names.job_key(old), "created_ms", 1000)

    assert found(ledger, model="mira-pro") == [pro.id]
    assert found(ledger, model="another") == []
    assert found(ledger, until=now - timedelta(hours=1)) == [old]
    assert found(ledger, since=now - timedelta(hours=1)) == [pro.id]
    assert found(ledger, since=now - timedelta(hours=2), until=now - timedelta(hours=1)) == []
    assert found(ledger, since=datetime.fromtimestamp(1, UTC), until=datetime.fromtimestamp(1, UTC)) == []


def test_a_search_goes_on_where_it_has_stopped(ledger: Ledger) -> None:
    accepted(ledger)
    others = {each.id for each in ledger.accept(ACCOUNT, [replace(new_job(), metadata={"n": "1"}) for _ in range(150)])}
    place: Place | None = None
    pieces: list[list[str]] = []
    while place is not None or not pieces:
        piece = ledger.search(JobFilter(metadata={"n": "1"}), place, 40)
        pieces.append([job.id for job in piece.jobs])
        place = piece.next

    assert [len(piece) for piece in pieces] == [40, 40, 40, 30]
    assert {job_id for piece in pieces for job_id in piece} == others
    # No job matches among the first: the search stops, and the next one continues.
    nothing = JobFilter(metadata={"n": "2"})
    first = ledger.search(nothing, None, 40, max_read=50)
    assert not first.jobs
    assert first.next is not None
    assert ledger.search(nothing, first.next, 40).next is None


def test_a_count_is_that_of_the_list(ledger: Ledger) -> None:
    project = replace(new_job(), project="mine", metadata={"tenant": "7"})
    ledger.accept(ACCOUNT, [project, new_job(), replace(new_job(), metadata={"tenant": "7"})])
    waiting(ledger)
    running(ledger)
    for _ in range(2):
        ended(ledger, FAILURE)
    ended(ledger, COMPLETION)
    wanted: list[dict[str, Any]] = [
        {},
        {"state": "failed"},
        {"state": "queued"},
        {"state": "waiting"},
        {"code": "bad_request"},
        {"code": "open"},
        {"code": "succeeded"},
        {"project": "mine"},
        {"metadata": {"tenant": "7"}},
        {"model": "mira"},
        {"until": datetime.now(UTC) - timedelta(hours=1)},
        {"since": datetime.now(UTC) - timedelta(hours=1), "state": "succeeded"},
    ]

    counts = [ledger.count_listed(JobFilter.checked(**each)) for each in wanted]

    assert counts == [len(found(ledger, **each)) for each in wanted]
    assert counts == [8, 2, 3, 1, 2, 0, 0, 1, 2, 8, 0, 1]


@pytest.mark.parametrize("wanted", [{}, {"state": "failed"}, {"state": "waiting"}, {"code": "bad_request"}])
def test_a_count_of_open_jobs_leaves_out_the_others(ledger: Ledger, wanted: dict[str, Any]) -> None:
    accepted(ledger)
    waiting(ledger)
    ended(ledger, FAILURE)

    count = ledger.count_listed(JobFilter.checked(**wanted), only_open=True)

    assert count == len(list(ledger.each_listed(JobFilter.checked(**wanted), only_open=True)))


def test_a_count_leaves_out_jobs_that_have_expired(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = ended(ledger, FAILURE)
    redis_client.zadd(names.listed_key("failed"), {"expired-1": 1000, "expired-2": 2000})

    assert ledger.count_listed(JobFilter.checked(state="failed")) == 1
    assert redis_client.zrange(names.listed_key("failed"), 0, -1) == [job_id.encode()]
