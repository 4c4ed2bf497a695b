"""Reads what workers do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mira_producer.page.visitor import Audience
from mira_producer.page.workers.worker_state import WorkerState, worker_states
from mira_queue.contract.batch import Batch
from mira_queue.ledger.ledger import Ledger

# Jobs of one account that are read. A worker process runs 32 by default.
MAX_JOBS = 500


def read_workers(
    ledger: Ledger, accounts: Sequence[str], batches: Iterable[Batch], audience: Audience
) -> list[WorkerState]:
    """Return the live workers that serve these accounts."""
    live = [worker for worker in ledger.live_workers() if worker.account in accounts]
    running = [job for account in accounts for job in ledger.running_jobs(account, MAX_JOBS)]
    return worker_states(live, running, {batch.group: batch for batch in batches if batch.group}, audience)
