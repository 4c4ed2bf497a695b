"""Everything one worker process needs, built once from the settings and handed on."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import FOREVER, connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints
from mira_worker.cpu_affinity import OneCore
from mira_worker.groups import GroupRunner
from mira_worker.leases import LeaseKeeper
from mira_worker.pacing.pacer import Pacer
from mira_worker.pacing.pacer_thread import PacerThread
from mira_worker.rescue import Rescuer
from mira_worker.runner import JobRunner, ResultStore
from mira_worker.throttled_log import OutageLog
from mira_worker.transport import MiraClient


class Messages(Protocol):
    """Puts messages into the queue; what cannot be sent is left to rescue. Knows those that wait in this process."""

    def send(self, job_ids: list[str]) -> None: ...

    def send_later(self, job_id: str, countdown: timedelta) -> None: ...

    def send_groups(self, job_ids: list[str], size: int) -> None: ...

    def single_waits(self) -> bool: ...


# A worker that stops listening is still waited for by the server until its last look into the queue (the transport's
# BRPOP, a second) is over. A message sent sooner may be handed to this very process, and would end with it.
LAST_LOOK_S = 1.5
# How long giving back may take when the grace is over.
LAST_WORDS_S = 3.0


class Runtime:
    """The parts of a worker, wired. Nothing connects before the first job."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        results: ResultStore | None,
        messages: Messages,
        *,
        single_jobs: bool = False,
    ) -> None:
        self.settings = settings
        self.log = structlog.get_logger("mira_queue.worker").bind(pid=os.getpid())
        self.stopping = threading.Event()
        self._send = messages.send
        self._deaf_at_s = 0.0
        crash_points = CrashPoints(settings.crash_at)
        if crash_points.armed:
            self.log.warning("crash_armed", crash_at=settings.crash_at)
        ledger = Ledger(
            connect(redis_url, FOREVER, OutageLog(self.log).tell),
            result_ttl=settings.result_ttl,
            keeps_results=results is None,
        )
        self.ledger = ledger
        self.leases = LeaseKeeper(ledger, settings.lease, self.log)
        key = settings.api_key
        self.pacer = Pacer(
            ledger,
            settings.account,
            settings.configured_limits,
            # A probe's worker may die: the next one probes when its call must have ended.
            probe_lease=settings.request_timeout + timedelta(seconds=5),
            stopping=self.stopping,
            log=self.log,
            single_jobs=single_jobs,
        )
        client = key and MiraClient(
            settings.api_base,
            key,
            connect_timeout=settings.connect_timeout,
            total_timeout=settings.request_timeout,
            max_response_bytes=settings.max_response_bytes,
            connections=settings.concurrency,
        )
        self.runner = JobRunner(
            settings, ledger, self.pacer, self.leases, client or None, results, self.stopping, self.log, crash_points
        )
        self.groups = GroupRunner(
            ledger,
            self.runner,
            messages.send,
            messages.send_later,
            messages.send_groups,
            messages.single_waits,
            self.stopping,
            self.log,
        )
        self.courier = PacerThread(
            self.pacer, ledger.wake_ups(self.pacer.account, self.pacer.process), self.stopping, self.log
        )
        self.rescuer = Rescuer(
            settings,
            ledger,
            self.leases,
            self.pacer,
            self.runner,
            messages.send,
            self.stopping,
            self.log,
            crash_points,
        )

    def start(self) -> None:
        """Heartbeat, pacer and rescue; from now on, all on one core."""
        self.ledger.report_alive(self.pacer.account, self.settings.api_base, self.settings.rescue_interval)
        self.leases.start()
        self.courier.start()
        self.groups.start()
        self.rescuer.start()
        OneCore().start()

    def stop(self, exit_now: Callable[[], None]) -> None:
        """SIGTERM: jobs that wait go back at once; calls in flight get the grace period, then `exit_now` is called.

        Said again, the grace is over. Called in a signal's handler: whatever may need a lock is left to a thread.
        """
        if self.stopping.is_set():
            threading.Thread(target=self._give_all_back, args=(exit_now,), daemon=True).start()
            return
        self._deaf_at_s = time.monotonic() + LAST_LOOK_S
        self.stopping.set()
        threading.Thread(target=self.pacer.stop, daemon=True).start()
        self.log.info("stopping", in_flight=len(self.leases.held()), grace_s=self.settings.grace.total_seconds())
        timer = threading.Timer(self.settings.grace.total_seconds(), self._give_all_back, (exit_now,))
        timer.daemon = True
        timer.start()

    def _give_all_back(self, exit_now: Callable[[], None]) -> None:
        """What could not finish goes back unharmed: no attempt charged, its call counted as perhaps billed."""
        time.sleep(max(0.0, self._deaf_at_s - time.monotonic()))
        held = self.leases.held()
        # Without a server nothing can be given back; its leases pass, and the end of the grace is still the end.
        exit_at_last = threading.Timer(LAST_WORDS_S, exit_now)
        exit_at_last.daemon = True
        exit_at_last.start()
        try:
            given = [lease for lease in held if self.ledger.release(lease)]
            for lease in given:
                self.pacer.caller_gone(lease.job_id, lease.epoch)
            self._send([lease.job_id for lease in given])
            self.log.warning("gave_back", jobs=len(held))
        except QueueUnavailable as error:
            self.log.warning("give_back_failed", jobs=len(held), error=str(error))
        exit_now()
