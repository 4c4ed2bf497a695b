"""Parts of one worker process, built once from the settings."""

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
from mira_worker.clock_watch import ClockWatch
from mira_worker.cpu_affinity import CpuAffinity
from mira_worker.groups import GroupRunner
from mira_worker.leases import HeldLeases
from mira_worker.pacing.pacer import Pacer
from mira_worker.pacing.pacer_thread import PacerThread
from mira_worker.rescue import Rescuer
from mira_worker.runner import JobRunner, ResultStore
from mira_worker.throttled_log import ThrottledLog
from mira_worker.transport import MiraClient


class Messages(Protocol):
    """Sends messages, and leaves those that cannot be sent to rescue. Knows the messages that wait in this process."""

    def send(self, job_ids: list[str]) -> None: ...

    def send_later(self, job_id: str, countdown: timedelta) -> None: ...

    def send_groups(self, job_ids: list[str], size: int) -> None: ...

    def single_waits(self) -> bool: ...


# The server may still deliver messages to a stopping worker until the last poll of the transport (BRPOP, one second) is
# over. A message that is sent sooner may be delivered to this process, and would be lost with it.
LAST_POLL_S = 1.5
# Time to release jobs when the grace period is over.
RELEASE_S = 3.0


class Runtime:
    """Parts of a worker. Nothing connects before the first job."""

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
        self._last_poll_ends_s = 0.0
        crash_points = CrashPoints(settings.crash_at)
        if crash_points.armed:
            self.log.warning("crash_armed", crash_at=settings.crash_at)
        ledger = Ledger(
            connect(redis_url, FOREVER, ThrottledLog(self.log).warn),
            result_ttl=settings.result_ttl,
            keeps_results=results is None,
        )
        self.ledger = ledger
        self.leases = HeldLeases(ledger, settings.lease, self.log)
        key = settings.api_key
        self.pacer = Pacer(
            ledger,
            settings.account,
            settings.configured_limits,
            # If the probe's worker crashes, another call probes when the first one must have ended.
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
        self.pacer_thread = PacerThread(
            self.pacer, ledger.wake_ups(self.pacer.account, self.pacer.process), self.stopping, self.log
        )
        self.clock = ClockWatch(ledger, self.log)
        self.rescuer = Rescuer(
            settings, ledger, self.leases, self.pacer, self.runner, messages.send, self.stopping, self.log, crash_points
        )

    def start(self) -> None:
        """Start the heartbeat, the pacer, and rescue, all on one core."""
        self.ledger.report_alive(self.pacer.account, self.settings.api_base, self.settings.rescue_interval)
        self.clock.start()
        self.leases.start()
        self.pacer_thread.start()
        self.groups.start()
        self.rescuer.start()
        CpuAffinity().start()

    def stop(self, exit_now: Callable[[], None]) -> None:
        """Stop after SIGTERM: requeue waiting jobs immediately, and call `exit_now` when the grace period is over.

        A second call ends the grace period. This runs in a signal handler, so a thread does what may need a lock.
        """
        if self.stopping.is_set():
            threading.Thread(target=self._release_all, args=(exit_now,), daemon=True).start()
            return
        self._last_poll_ends_s = time.monotonic() + LAST_POLL_S
        self.stopping.set()
        threading.Thread(target=self.pacer.stop, daemon=True).start()
        self.log.info("stopping", in_flight=len(self.leases.held()), grace_s=self.settings.grace.total_seconds())
        timer = threading.Timer(self.settings.grace.total_seconds(), self._release_all, (exit_now,))
        timer.daemon = True
        timer.start()

    def _release_all(self, exit_now: Callable[[], None]) -> None:
        """Requeue unfinished jobs without charging an attempt. Their calls are counted as perhaps billed."""
        time.sleep(max(0.0, self._last_poll_ends_s - time.monotonic()))
        held = self.leases.held()
        # Without a server, nothing can be released, and the leases expire. The process ends nevertheless.
        last_exit = threading.Timer(RELEASE_S, exit_now)
        last_exit.daemon = True
        last_exit.start()
        try:
            released = [lease for lease in held if self.ledger.release(lease)]
            for lease in released:
                self.pacer.abandon_call(lease.job_id, lease.epoch)
            self._send([lease.job_id for lease in released])
            self.log.warning("jobs_released", jobs=len(held))
        except QueueUnavailable as error:
            self.log.warning("release_failed", jobs=len(held), error=str(error))
        exit_now()
