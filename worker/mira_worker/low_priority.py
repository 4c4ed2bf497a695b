"""Jobs with a low priority make room for other jobs.

If the account is at its limit, the jobs of a process wait for permits. When all its threads wait with jobs of a low
priority, an interactive job could not even get in line. These jobs then return to the queue, where it goes first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.names import Lane
from mira_queue.ledger.ledger import Ledger
from mira_worker.pacing.waiting_line import WaitingLine

# An idle worker takes a message within TICK_S (tasks.py). One that is still there at the second check has no thread.
CHECK_EVERY_S = 0.1
_BEFORE_LOW = {Lane.FIRST, Lane.NORMAL}


@dataclass(slots=True, eq=False)
class LowPriorityYield:
    """Background thread of one process. `lines` has the waiting line of each account.

    `single_waits` returns True if a message with another single job waits for a thread of this process.
    """

    _ledger: Ledger
    _lines: Mapping[str, WaitingLine]
    _single_waits: Callable[[], bool]
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _has_waited: bool = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="low-priority", daemon=True).start()

    def step(self) -> int:
        """Check once. Return how many jobs make room."""
        waiting = [line for line in self._lines.values() if line.has_low]
        if not waiting:
            self._has_waited = False
            return 0
        in_queue = bool(_BEFORE_LOW & self._ledger.lanes_with_messages(self._lines))
        make_room = self._single_waits() or (in_queue and self._has_waited)
        self._has_waited = in_queue
        return sum(line.yield_low() for line in waiting) if make_room else 0

    def _run(self) -> None:
        while not self._stopping.wait(CHECK_EVERY_S):
            try:
                if jobs := self.step():
                    self._log.debug("low_priority_jobs_released", jobs=jobs)
            except MiraQueueError:
                # Without a server, no job starts.
                continue
            except Exception:  # noqa: BLE001
                # Without this thread, interactive jobs would wait for others.
                self._log.exception("low_priority_failed")
