"""Waits as they were before all waits of a process shared one subscription, to be measured against.

Each took a connection. The pool of redis-py 8 has 100, and further waits failed. The benchmark allows any number.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from mira_queue import Job, MiraQueue, ResultTimeout
from mira_queue.contract import names
from mira_queue.contract.outcome import Outcome

POLL_INTERVAL_S = 2.0
FIRST_POLL_S = 0.02
MAX_POLL_S = 0.5


def wait(queue: MiraQueue, job: Job) -> Outcome:
    """Wait in a thread: each wait had a connection of its own."""
    while (outcome := queue.outcome_now(job.id)) is None:
        with queue.ledger._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(names.result_key(job.id))
            channel.get_message(timeout=POLL_INTERVAL_S)
            if not queue.ledger.status(job.id).state.is_final:
                channel.get_message(timeout=POLL_INTERVAL_S)
    return outcome


async def wait_async(job: Job) -> Outcome:
    """Wait in a task: each wait polled in a thread."""
    pause_s = FIRST_POLL_S
    while True:
        with suppress(ResultTimeout):
            return await asyncio.to_thread(job.outcome, 0)
        await asyncio.sleep(pause_s)
        pause_s = min(MAX_POLL_S, pause_s * 2)
