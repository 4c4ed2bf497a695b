"""Rescue: jobs whose worker is gone, whose wait is over, or whose message the queue has lost, move on again.

Every worker runs this step; no leader is needed, since each verb gives a job to one rescuer only. Its cost grows with
the number of stranded jobs, never with the length of the queue.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import MiraQueueError, Poison
from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.private_files import OUTPUT_FILE_MODE
from mira_worker.lane_progress import TakenOut
from mira_worker.leases import BEATS_PER_LEASE, LeaseKeeper
from mira_worker.pacing.pacer import Pacer
from mira_worker.runner import JobRunner

# Jobs that one step looks at, of each kind; the next step takes the next ones.
MOST = 500


class Rescuer:
    """`send` puts a message for each given job into the queue."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        leases: LeaseKeeper,
        pacer: Pacer,
        runner: JobRunner,
        send: Callable[[list[str]], None],
        stopping: threading.Event,
        log: FilteringBoundLogger,
        crash_points: CrashPoints,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._leases = leases
        self._pacer = pacer
        self._runner = runner
        self._send = send
        self._stopping = stopping
        self._log = log
        self._crash_points = crash_points
        self._lenient_until_s = 0.0
        self._taken_out = {lane: TakenOut(settings.resend_after) for lane in Lane}

    def start(self) -> None:
        threading.Thread(target=self._run, name="rescue", daemon=True).start()

    def step(self) -> int:
        """Look once; returns how many jobs were sent on."""
        rescued = [job_id for job_id in self._expired() if self._take(job_id)]
        due = [job_id for job_id in self._ledger.overdue(MOST) if self._ledger.resend(job_id)]
        lost = [job_id for lane in Lane for job_id in self._lost(lane)]
        if rescued or due or lost:
            self._crash_points.reach(CrashPoint.AFTER_RESCUE)
            self._send([*rescued, *due, *lost])
            self._log.info("rescued", leases=len(rescued), due=len(due), messages=len(lost))
        if unfinished := self._runner.give_back_unfinished():
            self._send(unfinished)
            self._log.warning("gave_back", jobs=len(unfinished))
        return len(rescued) + len(due) + len(lost)

    def _expired(self) -> list[str]:
        """Others' jobs whose lease has passed; none for the time of a lease after the server was away.

        Nobody could extend a lease meanwhile. Who comes back to the server a moment before the holders would take from
        them what they hold, answers that were paid for among it.
        """
        began_s = time.monotonic()
        # A server may answer, and refuse to write: then leases pass while it can be read.
        self._ledger.wait_until_writable()
        expired = self._ledger.expired_leases(MOST)
        now_s = time.monotonic()
        if now_s - began_s > self._settings.lease.total_seconds() / BEATS_PER_LEASE:
            self._lenient_until_s = now_s + self._settings.lease.total_seconds()
        if now_s < self._lenient_until_s:
            return []
        # Our heart may be late (a full machine, a laptop that was closed): our calls go on, and would be made twice.
        ours = {lease.job_id for lease in self._leases.held()}
        return [job_id for job_id in expired if job_id not in ours]

    def _lost(self, lane: Lane) -> list[str]:
        """Jobs whose message the queue no longer has, noted as sent again."""
        # The head first: whatever is sent after this look counts as younger than it.
        head = self._ledger.head(lane)
        head_sent_ms = self._ledger.lost_before_ms(lane, head, timedelta(0))
        # A message taken out may wait in a worker before it is claimed; a second one costs little and harms nothing.
        before_ms = self._taken_out[lane].lost_before_ms(head_sent_ms, time.monotonic())
        queued = self._ledger.queued_before(lane, before_ms, MOST)
        return [job_id for job_id in queued if self._ledger.resend(job_id, lane, before_ms)]

    def _take(self, job_id: str) -> bool:
        taken = self._ledger.rescue(job_id, self._settings.max_crashes, self._settings.lease)
        if isinstance(taken, Lease):
            self._crash_points.reach(CrashPoint.AFTER_POISON)
            self._log.error("poison", job_id=job_id, crashes=taken.crashes)
            detail = (
                f"its worker died {taken.crashes} times in the middle of it (MIRA_MAX_CRASHES); "
                "look at the workers' logs and memory before you retry it"
            )
            # The call was made under the lease before this one.
            self._pacer.caller_gone(job_id, taken.epoch - 1)
            self._runner.finish_as(taken, Poison(detail, None, taken.attempts, taken.unanswered_calls))
            return False
        if taken:
            self._pacer.caller_gone(job_id)
        return taken

    def _run(self) -> None:
        # Spread over the interval: workers started together need not all look at the same moment.
        pause_s = self._settings.rescue_interval.total_seconds()
        while not self._stopping.wait(pause_s * random.uniform(0.5, 1.0)):
            try:
                self.step()
                self._ledger.report_alive(self._pacer.account, self._settings.api_base, self._settings.rescue_interval)
                if self._settings.health_file is not None:
                    # Its age says: this worker lives, and reaches the server.
                    self._settings.health_file.touch(OUTPUT_FILE_MODE)
            except MiraQueueError as error:
                self._log.warning("rescue_failed", error=str(error))
            except Exception:  # noqa: BLE001
                # Whatever it was, a worker that no longer rescues would strand other workers' jobs.
                self._log.exception("rescue_failed")
        with suppress(MiraQueueError):
            self._ledger.report_stopped(self._pacer.account)
