"""Counts of jobs that ended, and of their tokens, on a real server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.outcome import Completion, Failure
from mira_queue.contract.pace import Estimate, Limit
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.request_limits import MIRA_LIMITS
from mira_queue.ledger.activity import Activity, Tokens
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import NewJob, new_job_id
from mira_queue.ledger.script_runner import CONSTANTS
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    accepted,
    begun,
    claimed,
    defer,
    ended,
    running,
)

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
ANSWERED = replace(COMPLETION, usage=USAGE)
MINUTE_MS, HOUR_MS = 60_000, 3_600_000


def activity(ledger: Ledger) -> Activity:
    return ledger.activities([ACCOUNT])[0]


def ended_as(ledger: Ledger, model: str, outcome: Completion | Failure = ANSWERED) -> None:
    """A job of a model that has ended."""
    body = {"messages": [{"role": "user", "content": "Hi"}], "model": model}
    job = NewJob(ChatRequest.checked(body, model="mira", limits=MIRA_LIMITS), new_job_id())
    ledger.accept(ACCOUNT, [job])
    assert ledger.finish(claimed(ledger, job.id), outcome)


def grow_old(client: redis.Redis, unit_ms: int, units: int) -> None:
    """Make the entries of this unit older."""
    key = names.activity_key(ACCOUNT)
    fields: Any = client.hgetall(key)
    for name, value in fields.items():
        time, _, rest = name.decode().partition(" ")
        if rest and time != "0" and (rest.startswith("end ") == (unit_ms == MINUTE_MS)):
            client.hdel(key, name)
            client.hset(key, f"{int(time) - units} {rest}", value)
    client.hdel(key, "tidied")


def test_an_end_is_counted_once_by_kind_and_code(ledger: Ledger) -> None:
    ended(ledger, COMPLETION)
    ended(ledger, COMPLETION, group="a file")
    ended(ledger, FAILURE, group="a file")
    ended(ledger, FAILURE)
    cancelled = accepted(ledger)
    for _ in range(2):
        ledger.cancel(cancelled)

    found = activity(ledger)

    code = FAILURE.code
    assert found.totals == {
        ("job", ""): 1,
        ("line", ""): 1,
        ("line", code): 1,
        ("job", code): 1,
        ("job", "cancelled"): 1,
    }
    assert found.by_code() == {"": 2, code: 2, "cancelled": 1}
    assert sum(each.count for each in found.ends) == 5


def test_a_repeated_end_and_one_of_a_lost_lease_count_nothing(ledger: Ledger) -> None:
    held = begun(ledger)
    assert ledger.finish(held, COMPLETION)
    assert ledger.finish(held, COMPLETION)
    assert not ledger.finish(replace(held, epoch=7), COMPLETION)
    assert defer(ledger, begun(ledger))

    assert activity(ledger).totals == {("job", ""): 1}


def test_the_minutes_of_the_last_hour_are_sixty_and_end_with_the_current_one(ledger: Ledger) -> None:
    ended(ledger, COMPLETION)
    ended(ledger, FAILURE, group="a file")

    found = activity(ledger)

    minutes = found.per_minute()
    assert len(minutes) == 60
    assert [at_ms - minutes[0][0] for at_ms, _, _ in minutes] == list(range(0, 60 * MINUTE_MS, MINUTE_MS))
    assert 0 <= found.now_ms - minutes[-1][0] < MINUTE_MS
    # The two may be in different minutes.
    assert (sum(each[1] for each in minutes), sum(each[2] for each in minutes)) == (1, 1)
    assert [sum(each[1] for each in found.per_minute(kind)) for kind in ("job", "line")] == [1, 0]


def test_older_ends_are_in_the_totals_only_and_the_hash_stays_small(ledger: Ledger, redis_client: redis.Redis) -> None:
    for _ in range(3):
        ended(ledger, ANSWERED)
        grow_old(redis_client, MINUTE_MS, 61)
    ended(ledger, ANSWERED)

    found = activity(ledger)

    assert found.totals["job", ""] == 4
    assert sum(each.count for each in found.ends) == 1
    assert found.tokens == {"mira": Tokens(28, 20)}
    # This minute and the total of the ends, this hour's prompt and completion tokens, and the minute of the tidying.
    assert redis_client.hlen(names.activity_key(ACCOUNT)) == 5


def test_tokens_are_counted_per_hour_and_model_and_unusable_ones_count(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    lost = {"prompt_tokens": 100, "completion_tokens": 10}
    ended_as(ledger, "mira")
    ended_as(ledger, "a model with spaces", replace(ANSWERED, lost_usage=lost))
    ended_as(ledger, "mira", replace(FAILURE, lost_usage=lost))
    ended_as(ledger, "mira", replace(COMPLETION, usage={}))
    grow_old(redis_client, HOUR_MS, 5)
    ended_as(ledger, "mira")

    found = activity(ledger)

    assert found.tokens == {"mira": Tokens(114, 20, 1), "a model with spaces": Tokens(107, 15)}
    assert found.tokens_since(found.now_ms - HOUR_MS) == {"mira": Tokens(7, 5)}
    assert found.tokens_since(found.now_ms - 7 * HOUR_MS) == found.tokens


@pytest.mark.parametrize("reported", [{"prompt_tokens": 2**62, "completion_tokens": "x"}, {"prompt_tokens": -5}])
def test_whatever_tokens_a_server_reports_its_job_ends(reported: dict[str, Any], ledger: Ledger) -> None:
    ended(ledger, replace(COMPLETION, usage=reported))

    assert activity(ledger).tokens == {"mira": Tokens(0, 0, 1)}


def test_many_names_of_models_do_not_fill_the_server(ledger: Ledger, redis_client: redis.Redis) -> None:
    key = names.activity_key(ACCOUNT)
    for start in range(0, CONSTANTS["MAX_ACTIVITY"], 1000):
        redis_client.hset(key, mapping={f"0 prompt m{number}": 1 for number in range(start, start + 1000)})
    redis_client.expire(key, names.ACCOUNT_TTL)
    before = redis_client.hlen(key)

    for number in range(20):
        ended_as(ledger, f"new{number}")

    assert redis_client.hlen(key) <= before + 5
    assert activity(ledger).tokens[""] == Tokens(140, 100)


def test_counts_live_for_the_ttl_of_the_account(ledger: Ledger, redis_client: redis.Redis) -> None:
    ended(ledger, COMPLETION)

    assert 0 < redis_client.ttl(names.activity_key(ACCOUNT)) <= names.ACCOUNT_TTL.total_seconds()


def test_each_change_of_a_learned_limit_is_listed_with_its_time_and_old_ones_make_room(ledger: Ledger) -> None:
    limit = Limit(60, 6_500, 0)
    version = ledger.store_estimate(ACCOUNT, 0, Estimate(rate=limit))
    # The same limits, and another estimate: no change.
    version = ledger.store_estimate(ACCOUNT, version, Estimate(rate=limit, start=8))
    assert ledger.store_estimate(ACCOUNT, 0, Estimate(in_flight=limit)) == 0
    for number in range(3, 3 + names.MAX_LIMIT_CHANGES):
        version = ledger.store_estimate(
            ACCOUNT, version, Estimate(rate=limit, in_flight=replace(limit, max_calls=number))
        )

    found = ledger.limit_changes(ACCOUNT)

    assert len(found) == names.MAX_LIMIT_CHANGES
    assert [each.in_flight for each in found] == list(range(3, 3 + names.MAX_LIMIT_CHANGES))
    assert {(each.rate, each.window_ms) for each in found} == {(60, 6_500)}
    assert [each.at_ms for each in found] == sorted(each.at_ms for each in found)
    assert running(ledger)
