"""`python -m tests.chaos.submitted INPUT OUTPUT ERRORS`: submit a file once and supervise it until it is finished."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import structlog
from mira_producer.batches.lock import SupervisorLock
from mira_producer.batches.supervisor_process import SupervisorProcess
from mira_producer.interrupts import interrupts

from mira_queue import MiraQueue
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.runtime.logs import configure_logs
from tests.chaos.child import end_with_driver
from tests.chaos.single import opened

POLL_EVERY_S = 0.3
NOT_ENDED = 3


def main(arguments: list[str]) -> int:
    end_with_driver()
    source, output, errors = map(Path, arguments)
    with interrupts() as (ending, _), opened() as queue:
        configure_logs(queue.settings.log_format, queue.settings.log_level)
        # Take the lock: the process that the driver kills must be the supervisor.
        lock = SupervisorLock(queue.batches.spool, queue.redis_url)
        while not lock.take() and not ending.is_set():
            time.sleep(POLL_EVERY_S)
        supervisor = SupervisorProcess(
            queue, queue.batches.spool, lock, ending, structlog.get_logger("mira_queue.supervisor")
        )
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        has_ended = False
        while thread.is_alive() and not ending.is_set() and not has_ended:
            time.sleep(POLL_EVERY_S)
            try:
                has_ended = _has_ended(queue, source, output, errors)
            except QueueUnavailable:
                continue
        ending.set()
        thread.join()
    return 0 if has_ended else NOT_ENDED


def _has_ended(queue: MiraQueue, source: Path, output: Path, errors: Path) -> bool:
    """Submit the file unless its batch exists. Return True if the batch is finished and its files are written."""
    batch = next(
        (batch for batch in queue.ledger.batches() if batch.input_name == source.name and not batch.is_run), None
    )
    if batch is None:
        batch = queue.batches.submit(source)
    if not batch.status.is_final:
        return False
    queue.batches.results(batch.id, output, errors)
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
