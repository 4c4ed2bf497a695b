"""Leases in the ledger, as workers use them: claim a job, then finish, defer or release it under the lease."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mira_queue.contract import names
from mira_queue.contract.call_history import CallHistory
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure, Outcome, celery_record
from mira_queue.contract.states import JobState
from mira_queue.contract.timeline import CallRecord
from mira_queue.contract.token_estimate import count
from mira_queue.contract.webhook import ending_of
from mira_queue.ledger.accounts import process_name
from mira_queue.ledger.billed_tokens import billed_tokens
from mira_queue.ledger.records import DecidedLease, Lease, NothingToDo, Why
from mira_queue.ledger.script_runner import ScriptRunner, decode, in_ms

Claimed = Lease | DecidedLease | NothingToDo


class Leases(ScriptRunner):
    """Operations of workers."""

    def claim(self, account: str, job_id: str, lease: timedelta) -> Claimed:
        """Claim a job of this account for this caller, or return why there is nothing to do."""
        return self.claim_many(account, "", [job_id], lease)[0]

    def claim_many(self, account: str, base: str, job_ids: Sequence[str], lease: timedelta) -> list[Claimed]:
        """Claim several jobs of this account, whose base URL is `base`, in one round trip."""
        calls = [
            (
                [*names.job_keys(account, job_id), names.pace_key(account)],
                [job_id, account, base, in_ms(lease), uuid.uuid4().hex, process_name()],
            )
            for job_id in job_ids
        ]
        answers = self._run_many("jobs/claim", calls)
        return [_claimed(account, job_id, answer) for job_id, answer in zip(job_ids, answers, strict=True)]

    def extend(self, leases: Iterable[Lease], lease: timedelta) -> list[bool]:
        """Extend leases in one round trip. Return False for each lease that is lost."""
        answers = self._run_many(
            "jobs/extend",
            [
                ([names.job_key(held.job_id), names.leased_key(held.account)], [held.job_id, held.epoch, in_ms(lease)])
                for held in leases
            ],
        )
        return [bool(answer) for answer in answers]

    def record_outcome(self, lease: Lease, outcome: bytes) -> bool:
        """Record the outcome before another result backend stores it. Return False if the lease is lost."""
        return bool(self._run("jobs/record_outcome", [names.job_key(lease.job_id)], [lease.epoch, outcome]))

    def finish(self, lease: Lease, outcome: Outcome, call: CallRecord | None = None) -> bool:
        """Store the outcome, once. Return False if the lease is lost and nothing was stored.

        `call` is the call that brought the outcome, for the timeline of a single job.
        """
        record = celery_record(lease.job_id, outcome, datetime.now(UTC)) if self.keeps_results else b""
        state, code = (JobState.FAILED, outcome.code) if isinstance(outcome, Failure) else (JobState.SUCCEEDED, "")
        args = [lease.job_id, lease.epoch, state, record, self._result_ttl_ms, lease.key, lease.group]
        args += [outcome.attempts, outcome.unanswered_calls, code]
        args.append(lease.history.with_lost_usage(outcome.lost_usage).to_json())
        args += [ending_of(outcome), *_tokens_of(outcome), _text_of(lease, call)]
        args += billed_tokens(outcome, len(lease.body))
        keys = names.job_keys(lease.account, lease.job_id, lease.key, lease.group)
        keys.append(names.activity_key(lease.account))
        if not lease.group:
            keys.append(names.timeline_key(lease.job_id))
            keys += names.webhook_keys(lease.project)
            keys += names.listed_keys(lease.account, lease.project, state, code)
        return bool(self._run("jobs/finish", keys, args))

    def defer(
        self,
        lease: Lease,
        wait: timedelta,
        lost_after: timedelta,
        *,
        attempts: int,
        unanswered_calls: int,
        reason: str,
        history: CallHistory | None = None,
        call: CallRecord | None = None,
    ) -> bool:
        """Let the job wait, without a lease. Return False if the lease is lost.

        The caller's message for the job counts as lost `lost_after` after the job is due. Zero means that the caller
        sends no message.
        """
        args = [lease.job_id, lease.epoch, in_ms(wait), in_ms(lost_after), attempts, unanswered_calls, reason]
        args += [(history or lease.history).to_json(), _text_of(lease, call)]
        return bool(self._run("jobs/defer", _keys_with_timeline(lease), args))

    def release(self, lease: Lease) -> bool:
        """Return the job to the queue; the caller sends its message, in `lease.lane`. False if the lease is lost."""
        return bool(self._run("jobs/release", _keys_with_timeline(lease), [lease.job_id, lease.epoch]))

    def requeue(self, account: str, job_ids: Sequence[str], lane: Lane) -> list[str]:
        """Requeue jobs of a message of the account's lane that have not started. Return those that need a new one."""
        return [decode(job_id) for job_id in self._run("jobs/requeue", [names.queued_key(account, lane)], job_ids)]


def _keys_with_timeline(lease: Lease) -> list[str]:
    return [*names.job_keys(lease.account, lease.job_id), names.timeline_key(lease.job_id)]


def _text_of(lease: Lease, call: CallRecord | None) -> str:
    """Return the call for the timeline. Lines of files have none."""
    return call.to_text() if call and not lease.group else ""


def _tokens_of(outcome: Outcome) -> tuple[int, int, int]:
    """Return the tokens of prompts and of answers, unusable ones included, and 1 if the answer reports none."""
    prompt, completion = (count(outcome.lost_usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    if isinstance(outcome, Failure):
        return prompt, completion, 0
    asked, answered = (count(outcome.usage.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    return prompt + asked, completion + answered, int(not asked + answered)


def _claimed(account: str, job_id: str, answer: Any) -> Claimed:
    match answer:
        case [b"run", epoch, body, attempts, crashes, unanswered, key, group, history, left_ms, project, *more]:
            is_low, traceparent = more
            counts = attempts, crashes, unanswered
            return Lease(
                job_id,
                epoch,
                body,
                *counts,
                decode(key),
                decode(group),
                history=CallHistory.from_json(history),
                account=account,
                time_left=None if left_ms < 0 else timedelta(milliseconds=left_ms),
                project=decode(project),
                is_low=bool(is_low),
                traceparent=decode(traceparent),
            )
        case [b"store", epoch, outcome, key, group, project]:
            lease = Lease(
                job_id, epoch, b"", key=decode(key), group=decode(group), account=account, project=decode(project)
            )
            return DecidedLease(lease, outcome)
    why, *wait_ms = answer
    return NothingToDo(cast(Why, decode(why)), *wait_ms)
