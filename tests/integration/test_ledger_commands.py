"""A command of a batch stays until it is acknowledged, and a newer one is not lost with an older one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.batch import Batch, BatchStatus, new_batch_id
from mira_queue.contract.commands import Adopt, Cancel, Command, Pause, Resume, Retry
from mira_queue.contract.errors import BatchNotFound
from mira_queue.ledger.ledger import Ledger
from tests.support.ledger_steps import ACCOUNT, LIFE

ROUNDS = 300
GROUP = "a-group"


@pytest.fixture
def ledger(redis_client: redis.Redis) -> Ledger:
    return Ledger(redis_client, result_ttl=LIFE)


@pytest.fixture
def batch_id(ledger: Ledger) -> Iterator[str]:
    batch = Batch(new_batch_id(), BatchStatus.IN_PROGRESS, "input.jsonl", "here", 1)
    ledger.write_batch(batch)
    yield batch.id
    ledger.forget_batch(batch.id)


def test_a_command_that_was_acknowledged_is_gone(ledger: Ledger, batch_id: str) -> None:
    ledger.send_command(batch_id, Pause())
    ledger.ack_command(batch_id, Resume())
    assert ledger.command_of(batch_id) == Pause()

    ledger.ack_command(batch_id, Pause())
    ledger.ack_command(batch_id, Pause())
    assert ledger.command_of(batch_id) is None


def test_a_resume_with_another_budget_is_another_command(ledger: Ledger, batch_id: str) -> None:
    ledger.send_command(batch_id, Resume(max_cost="20"))
    ledger.ack_command(batch_id, Resume(max_cost="10"))

    assert ledger.command_of(batch_id) == Resume(max_cost="20")


def test_a_command_that_arrives_while_an_older_one_is_carried_out_stays(ledger: Ledger, batch_id: str) -> None:
    both = threading.Barrier(2)

    def do() -> None:
        for _ in range(ROUNDS):
            both.wait()
            ledger.ack_command(batch_id, Pause())
            both.wait()

    with ThreadPoolExecutor(1) as supervisor:
        done = supervisor.submit(do)
        kept = 0
        for _ in range(ROUNDS):
            ledger.send_command(batch_id, Pause())
            both.wait()
            ledger.send_command(batch_id, Cancel())
            both.wait()
            kept += ledger.command_of(batch_id) == Cancel()
            ledger.ack_command(batch_id, Cancel())
        done.result()

    assert kept == ROUNDS


RESUMES_WITH_MORE, RETRY, OTHER_RETRY = Resume(max_cost="20"), Retry(("402",)), Retry()


@pytest.mark.parametrize(
    ("pending", "command", "is_stored"),
    [
        (Cancel(), Resume(), False),
        (Cancel(), Pause(), False),
        (Cancel(), RETRY, False),
        (Cancel(), Cancel(), True),
        (RETRY, Cancel(), True),
        (RETRY, OTHER_RETRY, False),
        (RETRY, Pause(), False),
        (Pause(), RETRY, False),
        (Pause(), Resume(), True),
        (Resume(), Pause(), True),
        (RESUMES_WITH_MORE, Pause(), False),
        (Adopt("another"), Pause(), False),
    ],
    ids=str,
)
def test_no_command_replaces_one_whose_effect_would_be_lost(
    pending: Command, command: Command, is_stored: bool, ledger: Ledger, batch_id: str, redis_client: redis.Redis
) -> None:
    assert ledger.send_command(batch_id, pending)

    assert ledger.send_command(batch_id, command) is is_stored

    assert ledger.command_of(batch_id) == (command if is_stored else pending)
    redis_client.delete(names.HOLDS)


@pytest.mark.parametrize(("pending", "is_stored"), [(Pause(), True), (Cancel(), True), (RETRY, False)], ids=str)
def test_a_batch_that_has_ended_carries_out_a_retry_only(
    pending: Command, is_stored: bool, ledger: Ledger, redis_client: redis.Redis
) -> None:
    batch = Batch(new_batch_id(), BatchStatus.COMPLETED, "input.jsonl", "here", 1)
    ledger.write_batch(batch)
    ledger.send_command(batch.id, pending)

    assert ledger.send_command(batch.id, OTHER_RETRY) is is_stored

    redis_client.delete(names.HOLDS)
    ledger.forget_batch(batch.id)


@pytest.mark.parametrize(("command", "is_held"), [(Pause(), True), (Cancel(), True), (Resume(), False)])
def test_a_command_that_stops_a_batch_holds_its_jobs_in_the_same_step(
    command: Command, is_held: bool, ledger: Ledger, redis_client: redis.Redis
) -> None:
    batch = Batch(new_batch_id(), BatchStatus.IN_PROGRESS, "input.jsonl", "here", 1, group=GROUP)
    ledger.write_batch(batch)

    ledger.send_command(batch.id, command)

    assert (redis_client.zscore(names.HOLDS, GROUP) is not None) == is_held
    assert ledger.command_of(batch.id) == command
    redis_client.delete(names.HOLDS)
    ledger.forget_batch(batch.id)


def test_a_supervisor_that_has_seen_no_command_does_not_remove_the_hold_of_one(
    ledger: Ledger, batch_id: str, redis_client: redis.Redis
) -> None:
    """The command arrives between the supervisor's look for one and its next step."""
    ledger.hold(GROUP)
    assert ledger.command_of(batch_id) is None
    ledger.send_command(batch_id, Pause())

    assert ledger.unhold(batch_id, GROUP, ACCOUNT) is False
    assert redis_client.zscore(names.HOLDS, GROUP) is not None

    ledger.ack_command(batch_id, Pause())
    assert ledger.unhold(batch_id, GROUP, ACCOUNT) is True
    assert redis_client.zscore(names.HOLDS, GROUP) is None


def test_a_command_for_a_batch_that_does_not_exist_leaves_nothing(ledger: Ledger, redis_client: redis.Redis) -> None:
    with pytest.raises(BatchNotFound):
        ledger.send_command("batch_nowhere", Cancel())

    assert redis_client.keys("*nowhere*") == []
