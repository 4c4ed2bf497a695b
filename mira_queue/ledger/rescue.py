"""Rescue in the ledger: find orphaned jobs, and let one rescuer take each."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import orjson

from mira_queue.contract import names
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.names import Lane
from mira_queue.ledger.records import Lease
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms


class Rescue(ScriptRunner):
    """Operations of rescuers."""

    def expired_leases(self, account: str, limit: int) -> list[str]:
        """Return jobs of the account whose lease has expired, the earliest first."""
        return self._before(names.leased_key(account), None, limit)

    def wait_until_writable(self) -> None:
        """Return when the server accepts writes, within the client's patience."""
        self._client.set(names.WRITE_CHECK, "1", px=names.WRITE_CHECK_TTL)

    def overdue(self, account: str, limit: int) -> list[str]:
        """Return jobs of the account whose wait is over and whose message has not arrived."""
        return self._before(names.waiting_key(account), None, limit)

    def lost_before_ms(self, account: str, lane: Lane, head: str | None, slack: timedelta) -> int:
        """Return the time (server's ms) before which the messages of queued jobs have left the queue.

        A lane is first in, first out: messages sent before the one of its `head` (None if the lane is empty) have been
        taken. `slack` covers messages that were taken a moment ago, or that overtook each other. Return 0 if no message
        is known to be lost, because the head's message is a repeated one.
        """
        reference_ms: float | None = self._now_ms()
        if head is not None:
            reference_ms = self._client.zscore(names.queued_key(account, lane), head)
        return 0 if reference_ms is None else max(0, int(reference_ms) - in_ms(slack))

    def queued_before(self, account: str, lane: Lane, before_ms: int, limit: int) -> list[str]:
        """Return jobs of a lane whose message was sent before this time, the earliest first."""
        return self._before(names.queued_key(account, lane), before_ms, limit)

    def _before(self, key: str, before_ms: int | None, limit: int) -> list[str]:
        """Return the entries of a zset with a score below `before_ms`, or up to now."""
        end = self._now_ms() if before_ms is None else f"({before_ms}"
        found: Any = self._client.zrange(key, "-inf", end, byscore=True, offset=0, num=limit)
        return [decode(job_id) for job_id in found]

    def head(self, account: str, lane: Lane) -> str | None:
        """Return the job whose message is next in Celery's list: None if there is none, '' if it is not ours."""
        raw: Any = self._client.lindex(names.messages_key(account, lane), -1)
        return None if raw is None else _message_id(raw)

    def lanes_with_messages(self, accounts: Iterable[str]) -> set[Lane]:
        """Return the lanes in which a message of one of these accounts waits, in one round trip."""
        queues = [(account, lane) for account in accounts for lane in Lane]
        pipeline = self._client.pipeline(transaction=False)
        for account, lane in queues:
            pipeline.exists(names.messages_key(account, lane))
        return {lane for (_, lane), found in zip(queues, pipeline.execute(), strict=True) if found}

    def rescue(self, account: str, job_id: str, max_crashes: int, lease: timedelta) -> Lease | int | None:
        """Take a job whose lease has expired. Return the epoch of that lease if the job is queued again.

        Then it needs a message in the first lane. Return a new Lease if it is a poison job, to be finished as one, or
        None if another rescuer took it.
        """
        keys = [*names.job_keys(account, job_id), names.timeline_key(job_id)]
        match self._run("jobs/rescue", keys, [job_id, max_crashes, in_ms(lease)]):
            case [b"poison", epoch, attempts, crashes, unanswered, key, group, history, project, traceparent]:
                counts = attempts, crashes, unanswered
                known = CallHistory.from_json(history)
                return Lease(
                    job_id,
                    epoch,
                    b"",
                    *counts,
                    decode(key),
                    decode(group),
                    known,
                    account,
                    project=decode(project),
                    traceparent=decode(traceparent),
                )
            case [b"queued", int(epoch)]:
                return epoch
        return None

    def past_deadline(self, account: str, limit: int) -> list[str]:
        """Return single jobs of the account whose deadline has passed, the earliest first."""
        return self._before(names.deadlines_key(account), None, limit)

    def take_expired(self, account: str, job_id: str, lease: timedelta) -> Lease | None:
        """Take a job whose deadline has passed, to be finished as expired. Return None if there is nothing to do."""
        keys = [*names.job_keys(account, job_id), names.deadlines_key(account)]
        taken = self._run("jobs/take_expired", keys, [job_id, account, in_ms(lease)])
        if taken is None:
            return None
        epoch, attempts, crashes, unanswered, key, history, project, traceparent = taken
        known = CallHistory.from_json(history)
        counts = attempts, crashes, unanswered
        of_gateway, sent_by = decode(project), decode(traceparent)
        return Lease(
            job_id, epoch, b"", *counts, decode(key), "", known, account, project=of_gateway, traceparent=sent_by
        )

    def resend(self, account: str, job_id: str, found_in: Lane = Lane.FIRST, lost_before_ms: int = 0) -> Lane | None:
        """Return the lane in which the job is queued, and in which the caller has to send its new message, or None."""
        keys = [*names.job_keys(account, job_id), names.queued_key(account, found_in)]
        lane = self._run("jobs/resend", keys, [job_id, lost_before_ms])
        return None if lane is None else Lane[decode(lane).upper()]


def _message_id(raw: bytes) -> str:
    try:
        return str(orjson.loads(raw)["headers"]["id"])
    except (ValueError, KeyError, TypeError):
        return ""
