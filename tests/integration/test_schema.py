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
from mira_queue.contract.commands import Cancel, Resume
from mira_queue.contract.errors import NewerLedger, QueueUnusable
from mira_queue.contract.outcome import Completion, outcome_of
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.schema import OLD_QUEUES, SCHEMA
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
    batch = Batch.from_json(with_more(BATCH.to_json()))

    assert orjson.loads(replace(batch, answered=3).to_json())["a_new_field"] == [1, 2]
    assert batch == BATCH


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
