"""Watch over the server's clock, whose jumps (as on virtual machines) neither end leases and waits nor extend them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import MiraQueueError
from mira_queue.ledger.ledger import Ledger

# Much shorter than names.MAX_CLOCK_STEP. A busy machine may delay a check.
CHECK_EVERY_S = 0.5


@dataclass(slots=True, eq=False)
class ClockWatch:
    """Background thread of one process."""

    _ledger: Ledger
    _log: FilteringBoundLogger

    def start(self) -> None:
        """Check once, before this process reads a time, and then often."""
        self._check(is_first=True)
        threading.Thread(target=self._run, name="clock", daemon=True).start()

    def _check(self, *, is_first: bool = False) -> None:
        jump = self._ledger.check_clock(is_first=is_first)
        if jump:
            self._log.warning("clock_jumped", seconds=round(jump.total_seconds(), 1))

    def _run(self) -> None:
        # Until the process exits: calls in flight have a grace period, and their leases count.
        while True:
            time.sleep(CHECK_EVERY_S)
            try:
                self._check()
            except MiraQueueError as error:
                self._log.warning("clock_unchecked", error=str(error))
            except Exception:  # noqa: BLE001
                # Without this thread, the clock would stand still.
                self._log.exception("clock_unchecked")
