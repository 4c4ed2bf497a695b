"""Why nothing is done for a batch."""

from __future__ import annotations

from mira_queue.contract.batch import Batch, BatchStatus
from mira_queue.contract.errors import ModelNotInPlan
from producer.run.engine import Engine
from producer.run.options import End
from producer.run.waiting import Kind


def rest(batch: Batch) -> Kind:
    """Why nothing was done for a batch that is taken up now."""
    if any(BatchStatus(status).is_final for status in batch.stamps):
        return ""
    return "paused" if batch.paused else "keeper"


def refusal(engine: Engine) -> str:
    """The account's error, and which lines met it."""
    error = engine.account_error
    models = ", ".join(engine.held_models) if error and error.code == ModelNotInPlan.code else ""
    return f"the account refused{f' the lines of {models}' if models else ''}: {engine.why(End.ACCOUNT)}"
