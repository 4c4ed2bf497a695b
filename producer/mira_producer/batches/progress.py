"""Counts and final status of a batch, as its supervisor writes them. Pure, except for the clock."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace

from mira_producer.cost.usage import lost_usage
from mira_producer.engine.options import is_late
from mira_producer.engine.stats import NO_MODEL, Stats
from mira_producer.engine.wait_reason import NOTHING
from mira_queue.contract.batch import EXPIRED_CODE, Batch, BatchStatus, Kind, Reason
from mira_queue.ledger.records import LostCalls


def counted(batch: Batch, before: Stats, now: Stats, reason: Reason = NOTHING) -> Batch:
    """Return the batch with its counts: `before` the plan was made, and from then until `now`."""
    going = now.succeeded + now.failed > 0
    wait_s = reason.wait.total_seconds()
    models = {*before.models, *now.models} - {NO_MODEL}
    left_s = now.seconds_left if going else None
    usage, withdrawn = before.usage + now.usage, before.withdrawn + now.withdrawn
    return replace(
        batch,
        total=now.total,
        answered=now.before + now.succeeded,
        failed=now.failed_before + now.failed,
        codes=dict((Counter(before.codes) + now.codes).most_common()),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        model=models.pop() if len(models) == 1 else "",
        cost=f"{usage.cost:f}" if now.prices else "",
        currency=now.prices.currency,
        unpriced=usage.unpriced if now.prices else 0,
        uncounted=usage.uncounted,
        withdrawn_usage=withdrawn.reported(),
        unanswered_calls=before.unanswered_calls + now.unanswered_calls,
        per_second_now=now.per_second_now if going else 0.0,
        per_second=now.per_second if going else 0.0,
        seconds_left=None if left_s is None else max(left_s, wait_s),
        waiting=reason,
        updated_at=int(time.time()),
    )


def withdrawn_before(batch: Batch) -> LostCalls:
    """Return what the batch's lines have cost so far that is in neither of its files."""
    return LostCalls(batch.unanswered_calls, batch.withdrawn_usage)


def with_lost(batch: Batch, lost: LostCalls) -> Batch:
    """Return the batch with what a job has cost that no line of it names any more."""
    usage = lost_usage(lost.usage)
    return replace(
        batch,
        prompt_tokens=batch.prompt_tokens + usage.prompt_tokens,
        completion_tokens=batch.completion_tokens + usage.completion_tokens,
        unanswered_calls=batch.unanswered_calls + lost.calls,
    )


def at_rest(batch: Batch) -> Batch:
    """Return the batch without a rate and without a forecast, because nothing is sent."""
    return replace(batch, per_second_now=0.0, per_second=0.0, seconds_left=None, waiting=NOTHING, held_models=())


def final_status(batch: Batch) -> BatchStatus:
    """Return the status of a batch whose every line has ended, perhaps under a supervisor that crashed then."""
    if batch.status is BatchStatus.CANCELLING:
        return BatchStatus.CANCELLED
    is_expired = is_late(batch.options) and EXPIRED_CODE in batch.codes
    return BatchStatus.EXPIRED if is_expired else BatchStatus.COMPLETED


def why_idle(batch: Batch) -> Kind:
    """Return why nothing was sent for a batch before its supervisor started."""
    if any(BatchStatus(status).is_final for status in batch.stamps):
        return ""
    return "paused" if batch.paused else "supervisor"
