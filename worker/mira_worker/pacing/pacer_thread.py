"""What the pacer does beside the calls: hears who may go, brings back places nobody asked for, keeps calls counted."""

from __future__ import annotations

import threading
import time
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.pace import WakeUps
from mira_worker.pacing.pacer import CALL_LEASE, Pacer

# A place that came back, and that no ask of this process carries, is brought back within this.
TICK = timedelta(milliseconds=25)
KEEPS_PER_LEASE = 3
PAUSE_AFTER_FAILURE_S = 1.0


class PacerThread:
    """One background thread."""

    def __init__(self, pacer: Pacer, wake_ups: WakeUps, stopping: threading.Event, log: FilteringBoundLogger) -> None:
        self._pacer = pacer
        self._wakes = wake_ups
        self._stopping = stopping
        self._log = log

    def start(self) -> None:
        threading.Thread(target=self._run, name="pacer", daemon=True).start()

    def _run(self) -> None:
        """Also after `stopping`: calls in flight get their grace, and must stay counted."""
        keep_s = 0.0
        while True:
            try:
                if self._wakes.wait(TICK):
                    self._pacer.stir()
                self._pacer.tick()
                if time.monotonic() >= keep_s:
                    keep_s = time.monotonic() + CALL_LEASE.total_seconds() / KEEPS_PER_LEASE
                    self._pacer.renew_permits()
            except QueueUnavailable as error:
                self._log.warning("pacer_failed", error=str(error))
                self._stopping.wait(PAUSE_AFTER_FAILURE_S)
            except Exception:  # noqa: BLE001
                # Without this thread a killed process's places would never come back, nor a waiting one be woken.
                self._log.exception("pacer_failed")
                self._stopping.wait(PAUSE_AFTER_FAILURE_S)
