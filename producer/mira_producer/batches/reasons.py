"""Why nothing is done for a batch."""

from __future__ import annotations

from mira_producer.engine.wait_reason import Kind
from mira_queue.contract.batch import Batch, BatchStatus


def rest(batch: Batch) -> Kind:
    """Why nothing was done for a batch that is taken up now."""
    if any(BatchStatus(status).is_final for status in batch.stamps):
        return ""
    return "paused" if batch.paused else "supervisor"
