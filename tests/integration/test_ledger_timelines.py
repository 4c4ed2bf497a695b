"""Timelines of single jobs, on a real server."""

from __future__ import annotations

import os
import socket

import pytest
import redis

from mira_queue.contract import names
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.timeline import CallRecord, EventKind, TimelineEvent
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
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
    running,
)

LIMITED = CallRecord(1_700_000_000_000, 429, 12, "rate_limited", 3_200, "in_flight")
ANSWERED = CallRecord(1_700_000_009_000, 200, 850)
ME = f"{os.getpid()}@{socket.gethostname()}"


def kinds(ledger: Ledger, job_id: str) -> list[str]:
    return [event.kind.value for event in ledger.timeline(job_id)]


def defer(ledger: Ledger, held: Lease, call: CallRecord | None = LIMITED) -> None:
    assert ledger.defer(
        held, PASSED, LONG, attempts=0, unanswered_calls=0, reason="rate_limited (429): later", call=call
    )


def test_a_job_that_succeeds_at_once_has_a_timeline_that_costs_no_key(
    ledger: Ledger, redis_client: redis.Redis
) -> None:
    held = begun(ledger)
    assert ledger.finish(held, COMPLETION, ANSWERED)

    found = ledger.timeline(held.job_id)

    assert [event.kind for event in found] == [
        EventKind.ACCEPTED,
        EventKind.CLAIMED,
        EventKind.CALLED,
        EventKind.SUCCEEDED,
    ]
    assert found[1].worker == ME
    assert found[2].call == ANSWERED
    assert not redis_client.exists(names.timeline_key(held.job_id))


def test_a_wait_has_its_call_its_reason_and_its_end(ledger: Ledger) -> None:
    held = begun(ledger)
    defer(ledger, held)
    again = claimed(ledger, held.job_id)
    begin(ledger, again)
    assert ledger.finish(again, FAILURE, ANSWERED)

    found = ledger.timeline(held.job_id)

    assert [event.kind.value for event in found] == [
        "accepted", "claimed", "called", "waits", "claimed", "called", "failed",
    ]  # fmt: skip
    assert found[2].call == LIMITED
    assert found[3].reason == "rate_limited (429): later"
    assert found[3].until_ms == found[3].at_ms
    assert found[-1].reason == FAILURE.code


def test_an_open_job_shows_its_worker_and_its_call_in_flight(ledger: Ledger) -> None:
    held = running(ledger)
    assert kinds(ledger, held.job_id) == ["accepted", "claimed"]
    begin(ledger, held)

    found = ledger.timeline(held.job_id)

    assert [event.kind.value for event in found] == ["accepted", "claimed", "calling"]
    assert found[0].at_ms <= found[1].at_ms <= found[2].at_ms
    assert found[1].worker == ME


def test_a_crash_and_a_release_say_which_worker_had_the_job(ledger: Ledger) -> None:
    held = begun(ledger, PASSED)
    assert ledger.rescue(ACCOUNT, held.job_id, 3, LONG) == held.epoch
    assert ledger.release(claimed(ledger, held.job_id))

    found = ledger.timeline(held.job_id)

    assert [event.kind.value for event in found] == [
        "accepted", "claimed", "lost", "crashed", "claimed", "released",
    ]  # fmt: skip
    assert [event.worker for event in found if event.kind is EventKind.CLAIMED] == [ME, ME]


def test_a_retry_shows_the_end_before_it(ledger: Ledger, redis_client: redis.Redis) -> None:
    held = begun(ledger)
    assert ledger.finish(held, FAILURE, ANSWERED)
    assert ledger.retry(held.job_id)
    assert redis_client.ttl(names.timeline_key(held.job_id)) == -1
    assert ledger.finish(claimed(ledger, held.job_id), COMPLETION)

    found = ledger.timeline(held.job_id)

    assert [event.kind.value for event in found] == [
        "accepted", "claimed", "called", "failed", "retried", "claimed", "succeeded",
    ]  # fmt: skip
    assert found[3].reason == FAILURE.code
    # It lives as long as the job.
    assert redis_client.ttl(names.timeline_key(held.job_id)) > 0


def test_a_cancelled_and_a_moved_job_say_so(ledger: Ledger) -> None:
    cancelled, moved = accepted(ledger), accepted(ledger)
    assert ledger.cancel(cancelled)
    ledger.adopt(ACCOUNT, "another", [moved])

    assert kinds(ledger, cancelled) == ["accepted", "cancelled"]
    assert ledger.timeline(moved)[1] == TimelineEvent(
        ledger.timeline(moved)[1].at_ms, EventKind.MOVED, reason="another"
    )
    ledger.cancel(moved)


def test_a_long_timeline_keeps_its_beginning_and_its_end(ledger: Ledger, redis_client: redis.Redis) -> None:
    job_id = accepted(ledger)
    count = names.MAX_LEASES + 30
    for number in range(count):
        defer(ledger, claimed(ledger, job_id), CallRecord(1_700_000_000_000 + number, 503, 1, "server_error"))

    found = ledger.timeline(job_id)

    assert redis_client.llen(names.timeline_key(job_id)) == names.MAX_LEASES
    assert [event.count for event in found if event.kind is EventKind.LEFT_OUT] == [30]
    calls = [event.call.started_ms - 1_700_000_000_000 for event in found if event.call]
    first = names.FIRST_LEASES
    assert calls == [*range(first), *range(count - names.MAX_LEASES + first, count)]
    assert found[3 * first + 1].kind is EventKind.LEFT_OUT
    ledger.cancel(job_id)
    assert ledger.forget(job_id)
    assert not redis_client.exists(names.timeline_key(job_id))


def test_a_line_of_a_file_pays_for_no_timeline(ledger: Ledger, redis_client: redis.Redis) -> None:
    held = running(ledger, group="a file")
    defer(ledger, held)
    again = claimed(ledger, held.job_id)
    assert ledger.release(again)

    assert not redis_client.exists(names.timeline_key(held.job_id))
    assert ledger.finish(claimed(ledger, held.job_id), COMPLETION, ANSWERED)
    assert not redis_client.hexists(names.job_key(held.job_id), "call")


def test_a_job_that_does_not_exist_has_no_timeline(ledger: Ledger) -> None:
    with pytest.raises(JobNotFound):
        ledger.timeline("none")


@pytest.mark.parametrize("call", [LIMITED, ANSWERED])
def test_a_call_is_read_as_it_was_written_and_is_short(call: CallRecord) -> None:
    assert CallRecord.from_text(call.to_text()) == call
    assert len(call.to_text()) <= 64


def test_running_jobs_are_listed_with_their_worker_and_whether_their_call_is_in_flight(ledger: Ledger) -> None:
    waits, calls = running(ledger), begun(ledger, group="a file")
    accepted(ledger)

    found = {job.id: job for job in ledger.running_jobs(ACCOUNT)}

    assert set(found) == {waits.job_id, calls.job_id}
    assert (found[waits.job_id].called_ms, found[waits.job_id].group) == (None, "")
    assert (found[calls.job_id].called_ms or 0) >= found[calls.job_id].claimed_ms
    assert {job.worker for job in found.values()} == {ME}
    assert len(ledger.running_jobs(ACCOUNT, 1)) == 1
