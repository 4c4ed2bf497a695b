"""Each verb, with its answer lost on the way: the client tries again, the work is done once, the answer is the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
import redis

from mira_queue.contract.names import Lane
from mira_queue.ledger.connection import connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import scripts
from tests.support import redis_keys
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LIFE,
    LONG,
    PASSED,
    accepted,
    begin,
    begun,
    claimed,
    defer,
    new_job,
    running,
    snapshot,
)
from tests.support.lossy_redis import LossyRedis
from tests.support.waiting import wait_until

Arm = Callable[[], None]
Scenario = Callable[[Ledger, Arm], Any]


@pytest.fixture
def wire(redis_url: str) -> Iterator[LossyRedis]:
    with LossyRedis(redis_url) as wire:
        yield wire


@pytest.fixture
def ledger(wire: LossyRedis) -> Iterator[Ledger]:
    with connect(wire.url) as client:
        # The server refuses the first run of a script that it does not know; that answer is not the one to lose.
        for script in scripts().values():
            client.script_load(script)
        yield Ledger(client, result_ttl=LIFE)


def accept(ledger: Ledger, arm: Arm) -> Any:
    job = new_job("a key", "a group")
    arm()
    (answer,) = ledger.accept(ACCOUNT, [job])
    return answer.is_new, answer.id == job.id


def accept_after_the_end(ledger: Ledger, arm: Arm) -> Any:
    """Between the call and its repetition the job is run and ends: nothing of it may live for ever."""
    job = new_job("a key")
    (first,) = ledger.accept(ACCOUNT, [job])
    ledger.finish(claimed(ledger, job.id), COMPLETION)
    arm()
    return first == ledger.accept(ACCOUNT, [job])[0]


def claim(ledger: Ledger, arm: Arm) -> Any:
    job_id = accepted(ledger)
    arm()
    held = ledger.claim(ACCOUNT, job_id, LONG)
    return isinstance(held, Lease) and (held.epoch, held.body)


def begin_call(ledger: Ledger, arm: Arm) -> Any:
    held = running(ledger)
    arm()
    return begin(ledger, held)


def begin_as_the_probe(ledger: Ledger, arm: Arm) -> Any:
    ledger.open_breaker("an-account", timedelta(milliseconds=1))
    wait_until("the breaker is due for a probe", lambda: not ledger.pace_view("an-account").open_for)
    held = running(ledger)
    arm()
    return begin(ledger, held)


def open_breaker(ledger: Ledger, arm: Arm) -> Any:
    arm()
    return ledger.open_breaker("an-account", LONG) <= LONG


def extend(ledger: Ledger, arm: Arm) -> Any:
    held = running(ledger)
    arm()
    return ledger.extend([held], LONG)


def settle(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger)
    arm()
    return ledger.record_outcome(held, b"[]")


def succeed(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger, key="a key", group="a group")
    arm()
    return ledger.finish(held, COMPLETION)


def fail(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger, key="a key", group="a group")
    arm()
    return ledger.finish(held, FAILURE)


def wait(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger)
    arm()
    return defer(ledger, held)


def give_back(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger)
    arm()
    return ledger.release(held)


def cancel(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger, key="a key", group="a group")
    arm()
    return ledger.cancel(held.job_id)


def retry(ledger: Ledger, arm: Arm) -> Any:
    held = begun(ledger, key="a key")
    ledger.finish(held, FAILURE)
    arm()
    return ledger.retry(held.job_id)


def forget(ledger: Ledger, arm: Arm) -> Any:
    held = running(ledger, key="a key")
    ledger.finish(held, COMPLETION)
    arm()
    return ledger.delete(ACCOUNT, [(held.job_id, "a key")])


SCENARIOS: list[Scenario] = [
    accept, accept_after_the_end, claim, begin_call, begin_as_the_probe, open_breaker, extend, settle, succeed, fail,
    wait, give_back, cancel, retry, forget,
]  # fmt: skip


def shape(client: redis.Redis) -> dict[str, Any]:
    """What is stored, without what differs between two runs: ids, tokens, times."""

    def plain(value: Any) -> Any:
        match value:
            case dict():
                times = {
                    b"created_ms",
                    b"finished_ms",
                    b"due_ms",
                    b"open_until",
                    b"opened_at",
                    b"sent_at",
                    b"sent_bucket",
                    b"claimed_ms",
                    b"calling",
                    b"tidied",
                }
                times |= {b"probe_until", b"probe"}
                # Counts of ends begin with their minute.
                return {
                    re.sub(rb"^\d+ ", b"", name): name in times or name == b"token" or plain(inner)
                    for name, inner in value.items()
                }
            case list():
                return len(value)
            case bytes() if len(value) > 30:
                return True
        return value

    return {
        ":".join(part for part in key.split(":") if "-" not in part): (plain(value), has_end)
        for key, (value, has_end) in snapshot(client).items()
        if not key.startswith("_kombu")
    }


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_a_verb_whose_answer_was_lost_is_repeated_and_done_once(
    scenario: Scenario, ledger: Ledger, wire: LossyRedis, redis_client: redis.Redis
) -> None:
    expected = scenario(ledger, lambda: None)
    expected_shape = shape(redis_client)
    assert wire.lost == 0
    redis_keys.clear(redis_client)

    answer = scenario(ledger, wire.lose_next_answer)

    assert wire.lost == 1
    assert answer == expected
    assert shape(redis_client) == expected_shape


def test_a_rescue_whose_answer_was_lost_leaves_the_job_where_rescue_looks_again(
    ledger: Ledger, wire: LossyRedis
) -> None:
    """The rescuer hears that somebody else was quicker, and sends nothing: the job's message counts as lost."""
    held = begun(ledger, PASSED)
    wire.lose_next_answer()

    assert ledger.rescue(ACCOUNT, held.job_id, 3, LONG) is None

    status = ledger.status(held.job_id)
    assert (status.state, status.crashes, status.unanswered_calls) == ("queued", 1, 1)
    assert ledger.expired_leases(ACCOUNT, 10) == []
    assert found_as_lost(ledger) == [held.job_id]


def test_a_resend_whose_answer_was_lost_leaves_the_job_where_rescue_looks_again(
    ledger: Ledger, wire: LossyRedis
) -> None:
    held = running(ledger)
    defer(ledger, held, PASSED)
    wire.lose_next_answer()

    assert ledger.resend(ACCOUNT, held.job_id) is None
    assert found_as_lost(ledger) == [held.job_id]


def found_as_lost(ledger: Ledger) -> list[str]:
    """With no slack at all: rescue finds the same, later."""
    before_ms = ledger.lost_before_ms(ACCOUNT, Lane.FIRST, ledger.head(ACCOUNT, Lane.FIRST), -timedelta(seconds=1))
    return ledger.queued_before(ACCOUNT, Lane.FIRST, before_ms, 10)
