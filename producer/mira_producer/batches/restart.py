"""Supervisors that were killed: a process that stays, such as a worker, starts them again."""

from __future__ import annotations

import threading
from contextlib import suppress

from mira_producer.client import MiraQueue
from mira_queue.contract.errors import MiraQueueError


def restart_batches(queue: MiraQueue, ended: threading.Event) -> None:
    """Start a supervisor again for batches of this machine whose supervisor was killed, until `ended` is set."""
    while not ended.wait(queue.settings.rescue_interval.total_seconds()):
        with suppress(MiraQueueError, OSError):
            if any(queue.batches.spool.ids()):
                # Reading a batch starts its supervisor if it has none.
                queue.batches.all()
