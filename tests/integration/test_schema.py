"""Versions next to each other: unknown fields are carried along, and a newer schema is reported and left alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import redis

from mira_queue.contract import commands, names
from mira_queue.contract.batch import Batch, BatchStatus
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.commands import Cancel, Resume
from mira_queue.contract.errors import NewerLedger, QueueUnusable
from mira_queue.contract.outcome import Completion, outcome_of
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_queue.ledger.schema import OLD_QUEUES, SCHEMA
from tests.support.ledger_steps import ACCOUNT, FAILURE, PASSED, claimed, running
from tests.support.queue_process import QUICK, environment

BATCH = Batch("batch_1", BatchStatus.IN_PROGRESS, "in.jsonl", "here:/x", 1)


def with_more(text: bytes) -> bytes:
    """The record as a newer version would write it."""
    return orjson.dumps({"a_new_field": [1, 2], **orjson.loads(text)})


def test_a_ledger_gets_the_schema_of_the_first_version_that_connects(redis_url: str, redis_client: redis.Redis) -> None:
    with connect(redis_url) as client:
        client.ping()

    assert redis_client.get(names.SCHEMA_KEY) == str(SCHEMA).encode()


def test_open_jobs_of_a_version_before_accounts_are_reported_and_left_alone(
    redis_url: str, redis_client: redis.Redis
) -> None:
    redis_client.zadd(OLD_QUEUES[-1], {"a-job": 1})

    with pytest.raises(QueueUnusable, match="older"), connect(redis_url) as client:
        client.ping()
    assert redis_client.keys("mira:*") == [OLD_QUEUES[-1].encode()]

    redis_client.delete(OLD_QUEUES[-1])
    with connect(redis_url) as client:
        assert client.ping()


@pytest.mark.parametrize("command", [("-m", "mira_producer.cli", "limits"), ("-m", "mira_worker")])
def test_a_newer_schema_is_reported_once_and_nothing_is_changed(
    command: tuple[str, ...], redis_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    redis_client.set(names.SCHEMA_KEY, SCHEMA + 1)

    process = subprocess.run(
        [sys.executable, *command],
        env=environment(**{**QUICK, "redis_url": redis_url, "state_dir": tmp_path}),
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert process.returncode > 0
    assert process.stderr.count("schema") == 1
    assert "Traceback" not in process.stderr
    assert [key for key in redis_client.keys("mira:*") if key != names.SCHEMA_KEY.encode()] == []


def test_a_client_in_a_program_gets_the_error_too(redis_url: str, redis_client: redis.Redis) -> None:
    redis_client.set(names.SCHEMA_KEY, SCHEMA + 1)

    with connect(redis_url) as client, pytest.raises(NewerLedger):
        client.get("any")


def test_fields_of_a_newer_version_survive_that_an_older_supervisor_writes_its_batch() -> None:
    found = orjson.loads(with_more(BATCH.to_json()))
    found["options"]["a_new_option"] = 7
    batch = Batch.from_json(orjson.dumps(found))

    written = orjson.loads(replace(batch, answered=3, options=replace(batch.options, max_requests=9)).to_json())

    assert (written["a_new_field"], written["answered"]) == ([1, 2], 3)
    assert (written["options"]["a_new_option"], written["options"]["max_requests"]) == (7, 9)
    assert batch == BATCH


def test_fields_of_a_newer_version_survive_that_an_older_worker_runs_their_job(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    lease = running(ledger)

    def defer(lease: Lease, history: CallHistory) -> bool:
        return ledger.defer(lease, PASSED, PASSED, attempts=1, unanswered_calls=0, reason="busy", history=history)

    assert defer(lease, CallHistory(prompt_tokens=3))
    redis_client.hset(names.job_key(lease.job_id), "history", with_more(CallHistory(prompt_tokens=3).to_json()))

    lease = claimed(ledger, lease.job_id)
    assert defer(lease, replace(lease.history, rejections=2))
    lease = claimed(ledger, lease.job_id)
    assert ledger.finish(lease, FAILURE)
    assert ledger.retry(lease.job_id)

    history = orjson.loads(redis_client.hget(names.job_key(lease.job_id), "history") or b"")
    assert (history["a_new_field"], history["rejections"]) == ([1, 2], 0)


def test_fields_of_a_newer_version_survive_that_an_older_worker_learns_a_limit(ledger: Ledger) -> None:
    found = orjson.loads(with_more(Estimate(rate=Limit(60, 60_000, 1)).to_json()))
    found["rate"]["a_new_field"] = 1
    assert ledger.store_estimate(ACCOUNT, 0, Estimate.from_json(orjson.dumps(found)))

    version, estimate = ledger.estimate(ACCOUNT)
    assert estimate.rate is not None
    assert ledger.store_estimate(ACCOUNT, version, replace(estimate, rate=replace(estimate.rate, max_calls=50)))

    written = orjson.loads(ledger.estimate(ACCOUNT)[1].to_json())
    assert (written["a_new_field"], written["rate"]["a_new_field"], written["rate"]["max_calls"]) == ([1, 2], 1, 50)


def test_a_command_with_fields_of_a_newer_version_is_acknowledged(ledger: Ledger, redis_client: redis.Redis) -> None:
    ledger.write_batch(BATCH)
    redis_client.hset(names.batch_key(BATCH.id), "command", with_more(commands.to_json(Resume(5))))

    command = ledger.command_of(BATCH.id)
    assert command == Resume(5)
    ledger.ack_command(BATCH.id, Cancel())
    assert ledger.command_of(BATCH.id) == command
    ledger.ack_command(BATCH.id, command)
    assert ledger.command_of(BATCH.id) is None
    ledger.forget_batch(BATCH.id)


def test_an_unknown_command_is_reported_as_one_of_a_newer_version() -> None:
    with pytest.raises(NewerLedger):
        commands.from_json(b'{"command": "dance"}')


def test_estimates_and_outcomes_of_a_newer_version_are_read() -> None:
    estimate = Estimate(rate=Limit(60, 60_000, 1))
    found = orjson.loads(with_more(estimate.to_json()))
    found["rate"]["a_new_field"] = 1
    completion = Completion("Hello", "stop", {}, {})

    assert Estimate.from_json(orjson.dumps(found)) == estimate
    assert outcome_of(completion.to_dict() | {"a_new_field": 1}) == completion
