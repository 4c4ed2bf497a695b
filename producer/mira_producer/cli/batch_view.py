"""Texts and numbers that tables, cards, and live displays show of a batch."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from mira_producer.cli.problems import problem_lines
from mira_producer.cost.usage import Usage
from mira_producer.engine.wait_reason import LABELS, ZERO
from mira_producer.text import duration
from mira_queue.contract.batch import Batch, BatchStatus, Reason

# The supervisor of a batch writes it every second; after this time without a write, none is running.
SILENT_AFTER_S = 60


def tokens_of(batch: Batch) -> str:
    """Return the tokens of its answers; empty if there are none."""
    usage = _usage_of(batch)
    return usage.tokens_text() if usage.has_tokens else ""


def cost_text(batch: Batch) -> str:
    """Return the cost, and what it leaves out; empty without prices."""
    return _usage_of(batch).cost_text(batch.currency)


def reason_of(batch: Batch) -> Reason:
    """Return why it is paused, or what it waits for, and how long from now."""
    if batch.paused:
        return Reason("paused", f"{LABELS['paused']}: {batch.paused}")
    passed = timedelta(seconds=time.time() - batch.updated_at)
    return replace(batch.waiting, wait=max(ZERO, batch.waiting.wait - passed))


def status_text(batch: Batch) -> str:
    """Return the status for people: OpenAI has none for a batch that is paused, or a run that was stopped."""
    if batch.status.is_final or not batch.paused:
        return batch.status.value
    return "stopped" if batch.paused_by == "interrupt" else "paused"


def held_text(batch: Batch) -> str:
    if not batch.held_models:
        return ""
    return f"the account's plan lacks {', '.join(batch.held_models)}: those lines are kept, all others are run"


def left_text(batch: Batch) -> str:
    return "" if batch.seconds_left is None else duration(batch.seconds_left)


def took_text(batch: Batch) -> str:
    """Return the time from its start to its end; empty if it has not ended."""
    began_s, ended_s = batch.stamps.get(BatchStatus.IN_PROGRESS), batch.stamps.get(batch.status)
    return duration(ended_s - began_s) if batch.status.is_final and began_s and ended_s else ""


def wrong_lines(batch: Batch, most: int) -> list[str]:
    """Return the first problems of its input, and how many more there are."""
    return problem_lines(batch.errors, len(batch.errors) + batch.errors_left_out, most)


def silence_text(batch: Batch) -> str:
    """Return that no supervisor is running, and what to do; empty if one is."""
    silent_s = time.time() - batch.updated_at
    if batch.status.is_final or batch.paused or not batch.updated_at or silent_s < SILENT_AFTER_S:
        return ""
    machine = batch.place.partition(":")[0]
    cure = "run the same command again there" if batch.is_run else "any mira-queue command there starts it again"
    return f"no sign of life from {machine} for {duration(silent_s)}: {cure}"


def _usage_of(batch: Batch) -> Usage:
    prompt, completion, cost = batch.prompt_tokens, batch.completion_tokens, Decimal(batch.cost or 0)
    return Usage(0, prompt, completion, cost, uncounted=batch.uncounted, unpriced=batch.unpriced)
