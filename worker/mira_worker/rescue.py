"""Rescue of jobs whose worker crashed, whose wait is over, whose deadline has passed, or whose message is lost.

Every worker runs this step. It needs no leader, because each operation gives a job to one rescuer only. Its cost grows
with the number of orphaned jobs, not with the length of the queue.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
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
from mira_worker.runner import JobRunner

# Jobs of each kind that one step checks. The next step checks the next ones.
MAX_JOBS = 500


@dataclass(eq=False)
class Rescuer:
    """Rescuer of the accounts that this process serves. `send` puts a message per job into a lane of its account."""

    _settings: Settings
    _ledger: Ledger
    _leases: HeldLeases
    _runners: Sequence[JobRunner]
    _send: Callable[[str, list[str], Lane], None]
    _stopping: threading.Event
    _log: FilteringBoundLogger
    _crash_points: CrashPoints
    _waits_until_s: float = 0.0

    def __post_init__(self) -> None:
        patience = self._settings.resend_after
        self._progress = {(runner.account, lane): LaneProgress(patience) for runner in self._runners for lane in Lane}

    def start(self) -> None:
        threading.Thread(target=self._run, name="rescue", daemon=True).start()

    def report_alive(self) -> None:
        """Report that this process serves its accounts."""
        for runner in self._runners:
            self._ledger.report_alive(runner.account, runner.base, self._settings.rescue_interval)

    def step(self) -> int:
        """Check once. Return how many jobs got a message."""
        expired = self._expired()
        return sum(self._step(runner, expired.get(runner.account, [])) for runner in self._runners)

    def _step(self, runner: JobRunner, expired: list[str]) -> int:
        """Check one account once."""
        account = runner.account
        rescued = [job_id for job_id in expired if self._take(runner, job_id)]
        due = self._resent(account, self._ledger.overdue(account, MAX_JOBS))
        lost = [each for lane in Lane for each in self._lost(account, lane)]
        if rescued or due or lost:
            self._crash_points.reach(CrashPoint.AFTER_RESCUE)
            for lane in (Lane.FIRST, Lane.LOW):
                resent = [job_id for job_id, sent_in in (*due, *lost) if sent_in is lane]
                if job_ids := [*(rescued if lane is Lane.FIRST else []), *resent]:
                    self._send(account, job_ids, lane)
            self._log.info("rescued", account=account, leases=len(rescued), due=len(due), messages=len(lost))
        for job_id in self._ledger.past_deadline(account, MAX_JOBS):
            if lease := self._ledger.take_expired(account, job_id, self._settings.lease):
                runner.finish_expired(lease)
        if interrupted := runner.release_interrupted():
            self._send(account, interrupted, Lane.FIRST)
            self._log.warning("jobs_released", jobs=len(interrupted))
        return len(rescued) + len(due) + len(lost)

    def _expired(self) -> dict[str, list[str]]:
        """Return other workers' jobs whose lease has expired, by account.

        It returns none within a lease after the server was unavailable. No worker could extend its leases in that time.
        Otherwise, the first worker to reach the server again would take jobs from live workers, with responses that
        were paid for.
        """
        began_s = time.monotonic()
        # A server that can be read may reject writes: then leases expire, too.
        self._ledger.wait_until_writable()
        expired = {runner.account: self._ledger.expired_leases(runner.account, MAX_JOBS) for runner in self._runners}
        now_s = time.monotonic()
        if now_s - began_s > self._settings.lease.total_seconds() / BEATS_PER_LEASE:
            self._waits_until_s = now_s + self._settings.lease.total_seconds()
        if now_s < self._waits_until_s:
            return {}
        # Our heartbeat may be late (a busy machine, a closed laptop). Our calls continue, and must not be repeated.
        ours = {lease.job_id for lease in self._leases.held()}
        return {account: [job_id for job_id in ids if job_id not in ours] for account, ids in expired.items()}

    def _resent(
        self, account: str, job_ids: list[str], found_in: Lane = Lane.FIRST, lost_before_ms: int = 0
    ) -> list[tuple[str, Lane]]:
        """Return those of these jobs that need a message now, and its lane."""
        lanes = [(job_id, self._ledger.resend(account, job_id, found_in, lost_before_ms)) for job_id in job_ids]
        return [(job_id, lane) for job_id, lane in lanes if lane is not None]

    def _lost(self, account: str, lane: Lane) -> list[tuple[str, Lane]]:
        """Return jobs whose message the queue has lost. They are recorded as sent again."""
        # The head first: messages that are sent after this check are newer than it.
        head = self._ledger.head(account, lane)
        head_sent_ms = self._ledger.lost_before_ms(account, lane, head, timedelta(0))
        # A taken message may wait in a worker before its job is claimed. A duplicate costs little and is harmless.
        before_ms = self._progress[account, lane].lost_before_ms(head_sent_ms, time.monotonic())
        queued = self._ledger.queued_before(account, lane, before_ms, MAX_JOBS)
        return self._resent(account, queued, lane, before_ms)

    def _take(self, runner: JobRunner, job_id: str) -> bool:
        """Return True if the job is queued again, and needs a message."""
        taken = self._ledger.rescue(runner.account, job_id, self._settings.max_crashes, self._settings.lease)
        if taken is None:
            return False
        if isinstance(taken, Lease):
            self._crash_points.reach(CrashPoint.AFTER_POISON)
            self._log.error("poison", job_id=job_id, crashes=taken.crashes)
            # The call was made under the previous lease.
            runner.pacer.abandon_call(job_id, taken.epoch - 1)
            runner.finish_poison(taken)
            return False
        # By its epoch: another worker may have the job by now, and its call must keep its permit.
        runner.pacer.abandon_call(job_id, taken)
        return True

    def _run(self) -> None:
        # Workers that were started together should not all check at the same time.
        pause_s = self._settings.rescue_interval.total_seconds()
        while not self._stopping.wait(pause_s * random.uniform(0.5, 1.0)):
            try:
                self.step()
                self.report_alive()
                if self._settings.health_file is not None:
                    # Its age shows that this worker is alive and reaches the server.
                    self._settings.health_file.touch(OUTPUT_FILE_MODE)
            except MiraQueueError as error:
                self._log.warning("rescue_failed", error=str(error))
            except Exception:  # noqa: BLE001
                # Without this thread, jobs of crashed workers would stay orphaned.
                self._log.exception("rescue_failed")
        with suppress(MiraQueueError):
            for runner in self._runners:
                self._ledger.report_stopped(runner.account)
