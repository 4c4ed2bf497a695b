"""The most recent batches that users see."""

from __future__ import annotations

from mira_producer.gateway.context import Context
from mira_producer.page.batches.batch_state import BatchState, state_of, without_paths
from mira_producer.page.visitor import Audience

# A batch that is older, and still open, is in the list of batches.
MAX_BATCHES = 50


def recent_batches(context: Context, audience: Audience) -> list[BatchState]:
    """Return the last batches, the newest first. The cost does not grow with their number."""
    batches = context.queue.batches
    return [
        state_of(without_paths(batch, batches.spool.files_of(batch), may_act=audience.may_act), command)
        for batch, command in batches.after(None, MAX_BATCHES)
        if audience.sees(batch.origin.project)
    ]
