"""Indexes of recent single jobs, on a real server."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.errors import InvalidRequest
from mira_queue.contract.job_filter import JobFilter
from mira_queue.contract.job_options import Priority
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure
from mira_queue.contract.states import JobState
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease, NewJob, NothingToDo
from tests.support.ledger_steps import (
    ACCOUNT,
    COMPLETION,
    FAILURE,
    LONG,
    PASSED,
    accepted,
    begin,
    begun,
    claimed,
    defer,
    ended,
    life_ms,
    new_job,
    request,
    running,
    waiting,
)

ALL = JobFilter()


def ids(ledger: Ledger, **wanted: Any) -> list[str]:
    return [job.id for job in ledger.listed(JobFilter.checked(**wanted))]


def sizes(client: redis.Redis) -> dict[str, int]:
    return {key.decode(): client.zcard(key) for key in client.scan_iter(names.listed_key("*"))}


def test_a_job_is_listed_by_its_state_from_accept_to_its_end(ledger: Ledger) -> None:
    queued, waits, runs = accepted(ledger), waiting(ledger), running(ledger).job_id
    succeeded, failed = ended(ledger, COMPLETION), ended(ledger, FAILURE)
    cancelled = accepted(ledger)
    ledger.cancel(cancelled)

    assert ids(ledger, state="queued") == [queued]
    assert ids(ledger, state="waiting") == [waits]
    assert ids(ledger, state="running") == [runs]
    assert ids(ledger, state="succeeded") == [succeeded]
    assert ids(ledger, state="failed") == ids(ledger, code="bad_request") == [failed]
    assert ids(ledger, state="cancelled") == [cancelled]
    assert sorted(ids(ledger)) == sorted([queued, waits, runs, succeeded, failed, cancelled])
    assert ids(ledger, code="poison") == []


def test_a_retried_job_is_open_again(ledger: Ledger) -> None:
    failed = ended(ledger, FAILURE)

    assert ledger.retry(failed)

    assert ids(ledger, code="bad_request") == ids(ledger, state="failed") == []
    assert ids(ledger, state="queued") == [failed]
    ledger.finish(claimed(ledger, failed), COMPLETION)
    assert ids(ledger) == ids(ledger, state="succeeded") == [failed]


def test_a_project_lists_its_own_jobs_and_all_are_listed_without_one(ledger: Ledger, redis_client: redis.Redis) -> None:
    [mine] = ledger.accept(ACCOUNT, [replace(new_job(), project="mine")])
    [theirs] = ledger.accept(ACCOUNT, [replace(new_job(), project="theirs")])
    others = accepted(ledger)
    ledger.finish(claimed(ledger, mine.id), FAILURE)

    assert ids(ledger, project="mine") == ids(ledger, project="mine", code="bad_request") == [mine.id]
    assert ids(ledger, project="theirs", state="queued") == [theirs.id]
    assert ids(ledger, project="nobody's") == []
    assert set(ids(ledger)) == {mine.id, theirs.id, others}
    assert ledger.retry(mine.id)
    assert ids(ledger, project="mine", state="queued") == [mine.id]
    for job_id in (mine.id, theirs.id, others):
        ledger.cancel(job_id)
    assert ids(ledger, project="mine", state="cancelled") == [mine.id]
    assert not redis_client.exists(names.listed_key("open"), names.listed_key("open", "mine"))


def test_a_poison_job_of_a_project_is_listed_by_its_code(ledger: Ledger) -> None:
    [job] = ledger.accept(ACCOUNT, [replace(new_job(), project="mine")])
    assert begin(ledger, claimed(ledger, job.id, PASSED)) == "go"

    poison = ledger.rescue(ACCOUNT, job.id, 1, LONG)

    assert isinstance(poison, Lease)
    assert ledger.finish(poison, Failure("poison", "crashed"))
    assert ids(ledger, project="mine", code="poison") == [job.id]
    assert ids(ledger, state="queued") == []


def test_a_cancel_of_what_has_not_started_leaves_a_call_in_flight(ledger: Ledger) -> None:
    queued, waits, idle, calling = accepted(ledger), waiting(ledger), running(ledger), begun(ledger)

    cancelled = [ledger.cancel(each, only_unstarted=True) for each in (queued, waits, idle.job_id, calling.job_id)]

    assert cancelled == [True, True, True, False]
    assert ledger.finish(calling, COMPLETION)


def test_lines_of_files_and_jobs_of_groups_are_not_listed(ledger: Ledger, redis_client: redis.Redis) -> None:
    lines = [replace(new_job(group="a run"), lane=Lane.BULK) for _ in range(3)]
    for line in ledger.accept(ACCOUNT, lines)[:2]:
        ledger.finish(claimed(ledger, line.id), FAILURE)
    ledger.cancel(lines[2].id)

    assert sizes(redis_client) == {}
    assert ids(ledger) == []


def test_pages_follow_one_another_and_miss_nothing(ledger: Ledger) -> None:
    # One run of a script: these have the same time.
    jobs = {each.id for each in ledger.accept(ACCOUNT, [new_job() for _ in range(150)])}
    jobs |= {ended(ledger, COMPLETION) for _ in range(3)}

    pages: list[list[str]] = []
    while not pages or pages[-1]:
        pages.append([job.id for job in ledger.listed(ALL, limit=40, after=pages[-1][-1] if pages else "")])

    listed = [job_id for page in pages for job_id in page]
    assert (len(listed), set(listed)) == (153, jobs)
    assert listed == ids(ledger)
    with pytest.raises(InvalidRequest):
        ledger.listed(ALL, after="another")


def test_an_index_keeps_the_newest_jobs_only(ledger: Ledger, redis_client: redis.Redis) -> None:
    key = names.listed_key("open")
    for start in range(0, names.MAX_LISTED + 1000, 1000):
        redis_client.zadd(key, {f"old-{number}": number for number in range(start, start + 1000)})

    job_id = accepted(ledger)

    assert redis_client.zcard(key) == names.MAX_LISTED
    assert redis_client.zrevrange(key, 0, 0) == [job_id.encode()]
    # Their hashes have expired: a list removes them.
    assert ids(ledger) == [job_id]
    assert redis_client.zcard(key) == 1


def test_an_index_of_jobs_that_ended_lives_as_long_as_they_do(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = ended(ledger, FAILURE)

    for kind in ("failed", "bad_request"):
        assert abs(life_ms(redis_client, names.listed_key(kind)) - life_ms(redis_client, names.job_key(job_id))) < 1000


def test_jobs_are_found_by_metadata_and_by_time(ledger: Ledger, redis_client: redis.Redis) -> None:
    metadata = {"tenant": "7", "ключ": "значение"}
    [found] = ledger.accept(ACCOUNT, [replace(new_job(), metadata=metadata)])
    [other] = ledger.accept(ACCOUNT, [replace(new_job(), metadata={"tenant": "8"})])
    now = datetime.now(UTC)
    redis_client.zadd(names.listed_key("open"), {other.id: 1000})
    redis_client.hset(names.job_key(other.id), "created_ms", 1000)

    assert ids(ledger, metadata={"tenant": "7"}) == ids(ledger, metadata=metadata) == [found.id]
    assert ids(ledger, metadata={"tenant": "7", "more": ""}) == []
    assert ids(ledger, since=now - timedelta(hours=1)) == [found.id]
    assert ledger.status(found.id).metadata == metadata


# --- delay, deadline, priority ---


def test_a_delayed_job_waits_and_rescue_sends_it(ledger: Ledger, redis_client: redis.Redis) -> None:
    [job] = ledger.accept(ACCOUNT, [replace(new_job(), delay=LONG)])
    status = ledger.status(job.id)

    assert (job.is_due, status.state, status.due_ms) == (False, JobState.WAITING, status.created_ms + 3_600_000)
    assert ledger.overdue(ACCOUNT, 10) == []
    [early] = ledger.claim_many(ACCOUNT, "", [job.id], LONG)
    assert isinstance(early, NothingToDo)
    assert early.why == "early"

    redis_client.zadd(names.waiting_key(ACCOUNT), {job.id: 1})
    redis_client.hset(names.job_key(job.id), "due_ms", 1)
    assert ledger.overdue(ACCOUNT, 10) == [job.id]
    assert ledger.resend(ACCOUNT, job.id) is Lane.FIRST
    assert claimed(ledger, job.id).job_id == job.id


def test_a_delayed_job_of_another_key_still_waits(ledger: Ledger) -> None:
    delayed, queued = ledger.accept(ACCOUNT, [replace(new_job(), delay=LONG), new_job()])
    due_ms = ledger.status(delayed.id).due_ms

    assert sorted(ledger.adopt(ACCOUNT, "another", [delayed.id, queued.id])[0]) == sorted([delayed.id, queued.id])

    assert (ledger.status(delayed.id).state, ledger.status(delayed.id).due_ms) == (JobState.WAITING, due_ms)
    assert ledger.open_jobs(ACCOUNT) == []
    assert sorted(ledger.open_jobs("another")) == sorted([delayed.id, queued.id])


def test_a_job_with_a_low_priority_stays_behind_when_it_is_sent_again(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    [low] = ledger.accept(ACCOUNT, [NewJob(request(), "low", lane=Lane.LOW, priority=Priority.LOW)])
    before_ms = ledger.status(low.id).created_ms + 1

    assert ledger.queued_before(ACCOUNT, Lane.LOW, before_ms, 10) == [low.id]
    assert ledger.resend(ACCOUNT, low.id, Lane.LOW, before_ms) is Lane.LOW
    assert redis_client.zrange(names.queued_key(ACCOUNT, Lane.LOW), 0, -1) == [b"low"]

    ledger.finish(claimed(ledger, low.id), FAILURE)
    assert ledger.retry(low.id)
    assert redis_client.zrange(names.queued_key(ACCOUNT, Lane.LOW), 0, -1) == [b"low"]


def test_a_wait_ends_at_the_deadline_of_a_single_job(ledger: Ledger) -> None:
    [single] = ledger.accept(ACCOUNT, [replace(new_job(), time_left=timedelta(minutes=1))])
    [line] = ledger.accept(ACCOUNT, [replace(new_job(group="a run"), lane=Lane.BULK, time_left=timedelta(minutes=1))])
    for job in (single, line):
        assert defer(ledger, claimed(ledger, job.id), LONG)

    status = ledger.status(single.id)
    assert status.due_ms == status.deadline_ms
    assert (ledger.status(line.id).due_ms or 0) > (ledger.status(line.id).deadline_ms or 0)


def test_a_retried_job_has_no_deadline_any_more(ledger: Ledger) -> None:
    [late] = ledger.accept(ACCOUNT, [replace(new_job(), time_left=PASSED)])
    ledger.finish(claimed(ledger, late.id), FAILURE)

    assert ledger.retry(late.id)

    assert ledger.status(late.id).deadline_ms is None


def test_a_job_whose_deadline_passes_in_the_queue_is_taken_once_to_be_finished(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    late, waits, early = ledger.accept(
        ACCOUNT,
        [
            replace(new_job("order 7"), time_left=PASSED, project="mine"),
            replace(new_job(), time_left=PASSED, delay=LONG),
            replace(new_job(), time_left=LONG),
        ],
    )
    held = claimed(ledger, ledger.accept(ACCOUNT, [replace(new_job(), time_left=PASSED)])[0].id)
    assert sorted(ledger.past_deadline(ACCOUNT, 10)) == sorted([late.id, waits.id, held.job_id])

    taken = [
        ledger.take_expired(ACCOUNT, job_id, LONG) for job_id in (late.id, late.id, waits.id, early.id, held.job_id)
    ]

    assert [lease.job_id for lease in taken if lease] == [late.id, waits.id]
    for lease in taken:
        assert lease is None or ledger.finish(lease, Failure("expired", "late"))
    assert ids(ledger, project="mine", code="expired") == [late.id]
    assert ledger.past_deadline(ACCOUNT, 10) == []
    assert ledger.finish(held, COMPLETION)
    assert redis_client.zrange(names.deadlines_key(ACCOUNT), 0, -1) == [early.id.encode()]
