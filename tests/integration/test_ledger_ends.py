"""What is left of a job that has ended: nothing that never expires, and one announcement for its group."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
from redis.exceptions import InvalidResponse

from mira_queue.contract import names
from mira_queue.contract.errors import JobNotFound, QueueUnavailable
from mira_queue.contract.states import JobState
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from tests.support import redis_keys
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LIFE,
    LONG,
    PASSED,
    accepted,
    begun,
    ended,
    life_ms,
    new_job,
    running,
    snapshot,
    waiting,
)
from tests.support.simulator_process import SimulatorProcess

# Keys that belong to no single job: bindings of queues, the list of accounts, and the account's activity.
SHARED = ("_kombu", names.ACCOUNTS, names.activity_key(ACCOUNT))

# --- life spans ---


@pytest.mark.parametrize("outcome", [COMPLETION, FAILURE], ids=["succeeded", "failed"])
def test_everything_of_a_job_that_has_ended_has_an_end(outcome: Any, ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = ended(ledger, outcome, key="order 7", group="a run")

    kept = [key for key in snapshot(redis_client) if not key.startswith(SHARED)]
    expected = {
        names.job_key(job_id),
        names.idempotency_key(ACCOUNT, "order 7"),
        names.result_key(job_id),
        names.finished_key("a run"),
    }
    # The request of a failed job is kept, for retry.
    assert set(kept) == expected | ({names.request_key(job_id)} if outcome is FAILURE else set())
    whole = LIFE.total_seconds() * 1000
    assert all(whole - 60_000 < life_ms(redis_client, key) <= whole for key in kept)


def test_everything_of_a_cancelled_job_has_an_end(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = accepted(ledger, key="order 7", group="a run")
    ledger.cancel(job_id)

    kept = {key: has_end for key, (_, has_end) in snapshot(redis_client).items() if not key.startswith(SHARED)}
    assert kept.pop(names.job_key(job_id))
    assert names.request_key(job_id) not in kept
    assert len(kept) == 3
    assert life_ms(redis_client, names.activity_key(ACCOUNT)) > 0
    assert all(kept.values())


def test_outcomes_that_are_kept_elsewhere_are_not_kept_here(redis_client: redis.Redis, redis_url: str) -> None:
    with connect(redis_url) as client:
        ledger = Ledger(client, result_ttl=LIFE, keeps_results=False)
        held = begun(ledger)
        assert ledger.record_outcome(held, b"packed")
        assert ledger.finish(held, COMPLETION)

    assert redis_client.exists(names.result_key(held.job_id)) == 0
    assert redis_client.hget(names.job_key(held.job_id), "outcome") is None


@pytest.mark.parametrize(
    ("leave", "line"),
    [
        (lambda c: c.set("mira:stray", 1), "mira:stray: no owner in mira_queue/contract/names.py"),
        (lambda c: c.set("celery-task-meta-x", 1), "celery-task-meta-x: never expires"),
        (lambda c: c.hset("mira:pace:x", "sent", 1), "mira:pace:x: never expires"),
        (lambda c: c.set("mira:request:x", 1), "mira:request:x: never expires, and its job is not there"),
        (lambda c: c.hset("mira:job:x", "state", "failed"), "mira:job:x: never expires, and its job is failed"),
        (lambda c: c.set("mira:key:h", "digest:x"), "mira:key:h: never expires, and its job is not there"),
        (lambda c: c.rpush("mira:finished:g", "x"), "mira:finished:g: never expires"),
        (lambda c: c.zadd("mira:leased:a", {"x": 1}), "mira:leased:a: entries of jobs that are not running: x is"),
        (
            lambda c: c.zadd("mira:queued:normal:a", {"x": 1}),
            "mira:queued:normal:a: entries of jobs that are not queued",
        ),
    ],
)
def test_the_fixture_that_looks_for_leaks_finds_them(
    leave: Callable[[redis.Redis], Any], line: str, redis_client: redis.Redis
) -> None:
    assert redis_keys.leaked(redis_client) == []
    leave(redis_client)

    (found,) = redis_keys.leaked(redis_client)

    assert found.startswith(line)
    redis_keys.clear(redis_client)


# --- forget ---


@pytest.mark.parametrize("outcome", [COMPLETION, FAILURE], ids=["succeeded", "failed"])
def test_a_forgotten_job_leaves_nothing(outcome: Any, ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = ended(ledger, outcome, key="order 7", group="a run")

    ledger.delete(ACCOUNT, [(job_id, "order 7")])

    assert [key for key in snapshot(redis_client) if not key.startswith(SHARED)] == [names.finished_key("a run")]


@pytest.mark.parametrize(
    "make", [accepted, lambda ledger: running(ledger).job_id, waiting], ids=["queued", "running", "waiting"]
)
def test_an_open_job_is_not_forgotten(make: Callable[[Ledger], str], ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = make(ledger)
    before = snapshot(redis_client)

    ledger.delete(ACCOUNT, [(job_id, "")])

    assert snapshot(redis_client) == before


def test_of_many_jobs_those_that_have_ended_are_forgotten(ledger: Ledger) -> None:
    jobs = [(ended(ledger, COMPLETION), "") for _ in range(120)]
    still_open = accepted(ledger)
    jobs.insert(60, (still_open, ""))

    ledger.delete(ACCOUNT, jobs)

    assert ledger.status(still_open).state is JobState.QUEUED
    for job_id, _ in jobs:
        if job_id != still_open:
            with pytest.raises(JobNotFound):
                ledger.status(job_id)


# --- groups ---


def test_a_group_hears_of_each_end_once(ledger: Ledger, redis_client: redis.Redis) -> None:
    succeeded = ended(ledger, COMPLETION, group="a run")
    failed = ended(ledger, FAILURE, group="a run")
    withdrawn = accepted(ledger, group="a run")
    ledger.cancel(withdrawn)
    ended(ledger, COMPLETION, group="another run")
    ended(ledger, COMPLETION)

    assert 0 < life_ms(redis_client, names.finished_key("a run")) <= LIFE.total_seconds() * 1000
    assert ledger.finished("a run", 5, limit=2) == [succeeded, failed]
    assert ledger.finished("a run", 5) == [withdrawn]
    assert ledger.finished("a run", 0.01) == []


def test_a_dropped_group_leaves_nothing(ledger: Ledger, redis_client: redis.Redis) -> None:
    ended(ledger, COMPLETION, group="a run")

    ledger.drop_group("a run")

    assert redis_client.exists(names.finished_key("a run")) == 0


# --- where the server is not ---


def test_a_server_that_is_not_there_is_said_so_in_one_line(closed_port: int) -> None:
    says_why(f"redis://127.0.0.1:{closed_port}/0", redis.ConnectionError)


def test_a_server_that_is_no_redis_is_said_so_in_one_line(simulator: SimulatorProcess) -> None:
    says_why(f"redis://{urlsplit(simulator.url).netloc}/0", InvalidResponse)


def says_why(url: str, cause: type[Exception]) -> None:
    with connect(url, patience=PASSED) as client:
        ledger = Ledger(client, result_ttl=LIFE)
        for ask in (
            lambda: ledger.accept(ACCOUNT, [new_job()]),
            lambda: ledger.status("some-id"),
            lambda: ledger.claim(ACCOUNT, "some-id", LONG),
            lambda: ledger.finish(Lease("some-id", 1, b""), COMPLETION),
            lambda: ledger.finished("a run", timeout_s=0.1),
            lambda: ledger.find_finished(["some-id"]),
            lambda: ledger.announcements().connect(),
            lambda: ledger.wake_ups("an-account", "a process").wait(PASSED),
            ledger.queue_stats,
        ):
            with pytest.raises(QueueUnavailable, match="MIRA_REDIS_URL") as unavailable:
                ask()
            assert "\n" not in str(unavailable.value)
            assert isinstance(unavailable.value.__cause__, cause)
