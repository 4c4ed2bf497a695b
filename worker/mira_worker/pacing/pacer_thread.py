"""Background work of the pacer: wake-ups, release of permits that no request carries, renewal of permits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.pace import WakeUps
from mira_worker.pacing.waiting_line import CALL_LEASE, WaitingLine

# A permit that no request of this process carries is released within this.
TICK = timedelta(milliseconds=25)
RENEWALS_PER_LEASE = 3
PAUSE_AFTER_FAILURE_S = 1.0


@dataclass(slots=True, eq=False)
class PacerThread:
    """Background thread of a pacer."""

    _line: WaitingLine
    _wake_ups: WakeUps
    _stopping: threading.Event
    _log: FilteringBoundLogger

    def start(self) -> None:
        threading.Thread(target=self._run, name="pacer", daemon=True).start()

    def _run(self) -> None:
        """Run until the process exits: after `stopping`, calls in flight have a grace period and stay counted."""
        renew_s = 0.0
        while True:
            try:
                if self._wake_ups.wait(TICK):
                    self._line.stir()
                self._line.tick()
                if time.monotonic() >= renew_s:
                    renew_s = time.monotonic() + CALL_LEASE.total_seconds() / RENEWALS_PER_LEASE
                    self._line.renew_permits()
            except QueueUnavailable as error:
                self._log.warning("pacer_failed", error=str(error))
                self._stopping.wait(PAUSE_AFTER_FAILURE_S)
            except Exception:  # noqa: BLE001
                # Without this thread, permits would expire during their calls, and waiting jobs would not wake up.
                self._log.exception("pacer_failed")
                self._stopping.wait(PAUSE_AFTER_FAILURE_S)
