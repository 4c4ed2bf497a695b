"""The counts of a batch: what its files held, and what has ended since."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from mira_producer.engine.stats import NO_MODEL, Stats
from mira_producer.engine.wait_reason import NOTHING
from mira_queue.contract.batch import Batch, Reason


def counted(batch: Batch, before: Stats, now: Stats, unanswered_before: int, reason: Reason = NOTHING) -> Batch:
    """Return the batch with its counts. `before` is what its files held when the plan was made, `now` what has ended
    since.
    """
    going = now.succeeded + now.failed > 0
    wait_s = reason.wait.total_seconds()
    models = {*before.models, *now.models} - {NO_MODEL}
    left_s = now.seconds_left if going else None
    usage = before.usage + now.usage
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
        unanswered_calls=unanswered_before + now.unanswered_calls,
        per_second_now=now.per_second_now if going else 0.0,
        per_second=now.per_second if going else 0.0,
        seconds_left=None if left_s is None else max(left_s, wait_s),
        waiting=reason,
    )


def at_rest(batch: Batch) -> Batch:
    """Return the batch without a rate and without a forecast, because nothing is sent."""
    return replace(batch, per_second_now=0.0, per_second=0.0, seconds_left=None, waiting=NOTHING, held_models=())
