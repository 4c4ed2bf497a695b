"""Removal of files that have expired, and of what killed uploads have left."""

from __future__ import annotations

from anyio import sleep

from mira_producer.gateway.context import Context
from mira_producer.gateway.http.threads import in_thread
from mira_queue.contract.errors import MiraQueueError

# Expired files are not shown any more: this only frees their space.
SWEEP_EVERY_S = 60.0


async def run(context: Context) -> None:
    while True:
        try:
            sweeps = (context.files.sweep, context.uploads.sweep, context.batch_files.sweep)
            count = sum([await in_thread(sweep) for sweep in sweeps])
            if count:
                context.log.info("files_removed", count=count)
        except (MiraQueueError, OSError) as error:
            context.log.warning("sweep_failed", error=str(error))
        await sleep(SWEEP_EVERY_S)
