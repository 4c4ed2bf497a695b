"""Rescue of jobs whose worker crashed, whose wait is over, or whose message the queue has lost.

Every worker runs this step. It needs no leader, because each operation gives a job to one rescuer only. Its cost grows
with the number of orphaned jobs, not with the length of the queue.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.private_files import OUTPUT_FILE_MODE
from mira_worker.lane_progress import LaneProgress
from mira_worker.leases import BEATS_PER_LEASE, HeldLeases
from mira_worker.pacing.pacer import Pacer
from mira_worker.runner import JobRunner

# Jobs of each kind that one step checks. The next step checks the next ones.
MAX_JOBS = 500


@dataclass(eq=False)
class Rescuer:
    """`send` puts a message for each job into the queue."""

    _settings: Settings
    _ledger: Ledger
    _leases: HeldLeases
    _pacer: Pacer
    _runner: JobRunner
    _send: Callable[[list[str]], None]
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _crash_points: CrashPoints
    _waits_until_s: float = 0.0

    def __post_init__(self) -> None:
        self._progress = {lane: LaneProgress(self._settings.resend_after) for lane in Lane}

    def start(self) -> None:
        threading.Thread(target=self._run, name="rescue", daemon=True).start()

    def step(self) -> int:
        """Check once. Return how many jobs got a message."""
        rescued = [job_id for job_id in self._expired() if self._take(job_id)]
        due = [job_id for job_id in self._ledger.overdue(MAX_JOBS) if self._ledger.resend(job_id)]
        lost = [job_id for lane in Lane for job_id in self._lost(lane)]
        if rescued or due or lost:
            self._crash_points.reach(CrashPoint.AFTER_RESCUE)
            self._send([*rescued, *due, *lost])
            self._log.info("rescued", leases=len(rescued), due=len(due), messages=len(lost))
        if interrupted := self._runner.release_interrupted():
            self._send(interrupted)
            self._log.warning("jobs_released", jobs=len(interrupted))
        return len(rescued) + len(due) + len(lost)

    def _expired(self) -> list[str]:
        """Return other workers' jobs whose lease has expired; none within a lease after the server was unavailable.

        No worker could extend its leases in that time. Otherwise, the first worker to reach the server again would take
        jobs from live workers, with responses that were paid for.
        """
        began_s = time.monotonic()
        # A server that can be read may reject writes: then leases expire, too.
        self._ledger.wait_until_writable()
        expired = self._ledger.expired_leases(MAX_JOBS)
        now_s = time.monotonic()
        if now_s - began_s > self._settings.lease.total_seconds() / BEATS_PER_LEASE:
            self._waits_until_s = now_s + self._settings.lease.total_seconds()
        if now_s < self._waits_until_s:
            return []
        # Our heartbeat may be late (a busy machine, a closed laptop). Our calls continue, and must not be repeated.
        ours = {lease.job_id for lease in self._leases.held()}
        return [job_id for job_id in expired if job_id not in ours]

    def _lost(self, lane: Lane) -> list[str]:
        """Return jobs whose message the queue has lost. They are recorded as sent again."""
        # The head first: messages that are sent after this check are newer than it.
        head = self._ledger.head(lane)
        head_sent_ms = self._ledger.lost_before_ms(lane, head, timedelta(0))
        # A taken message may wait in a worker before its job is claimed. A duplicate costs little and is harmless.
        before_ms = self._progress[lane].lost_before_ms(head_sent_ms, time.monotonic())
        queued = self._ledger.queued_before(lane, before_ms, MAX_JOBS)
        return [job_id for job_id in queued if self._ledger.resend(job_id, lane, before_ms)]

    def _take(self, job_id: str) -> bool:
        """Return True if the job is queued again, and needs a message."""
        taken = self._ledger.rescue(job_id, self._settings.max_crashes, self._settings.lease)
        if taken is None:
            return False
        if isinstance(taken, Lease):
            self._crash_points.reach(CrashPoint.AFTER_POISON)
            self._log.error("poison", job_id=job_id, crashes=taken.crashes)
            # The call was made under the previous lease.
            self._pacer.abandon_call(job_id, taken.epoch - 1)
            self._runner.finish_poison(taken)
            return False
        # By its epoch: another worker may have the job by now, and its call must keep its permit.
        self._pacer.abandon_call(job_id, taken)
        return True

    def _run(self) -> None:
        # Workers that were started together should not all check at the same time.
        pause_s = self._settings.rescue_interval.total_seconds()
        while not self._stopping.wait(pause_s * random.uniform(0.5, 1.0)):
            try:
                self.step()
                self._ledger.report_alive(self._pacer.account, self._settings.api_base, self._settings.rescue_interval)
                if self._settings.health_file is not None:
                    # Its age shows that this worker is alive and reaches the server.
                    self._settings.health_file.touch(OUTPUT_FILE_MODE)
            except MiraQueueError as error:
                self._log.warning("rescue_failed", error=str(error))
            except Exception:  # noqa: BLE001
                # Without this thread, jobs of crashed workers would stay orphaned.
                self._log.exception("rescue_failed")
        with suppress(MiraQueueError):
            self._ledger.report_stopped(self._pacer.account)
