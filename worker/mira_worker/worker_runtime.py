"""Parts of one worker process, built once from the settings and the accounts that it serves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from mira_queue.contract.account import Account
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.contract.settings import Settings
from mira_queue.ledger.connection import FOREVER, connect
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints
from mira_queue.runtime.traces import load_traces
from mira_worker.clock_watch import ClockWatch
from mira_worker.cpu_affinity import CpuAffinity
from mira_worker.groups import GroupRunner
from mira_worker.leases import HeldLeases
from mira_worker.low_priority import LowPriorityYield
from mira_worker.pacing.pacer import Pacer
from mira_worker.pacing.pacer_thread import PacerThread
from mira_worker.rescue import Rescuer
from mira_worker.runner import JobRunner, ResultStore
from mira_worker.throttled_log import ThrottledLog
from mira_worker.transport import MiraClient, Transport


class Messages(Protocol):
    """Sends messages, and leaves those that cannot be sent to rescue. Knows the messages that wait in this process."""

    def send(self, account: str, job_ids: list[str], lane: Lane = Lane.FIRST) -> None: ...

    def send_later(self, account: str, job_id: str, countdown: timedelta) -> None: ...

    def send_groups(self, account: str, job_ids: list[str], size: int) -> None: ...

    def single_waits(self) -> bool: ...


# The server may still deliver messages to a stopping worker until the last poll of the transport (BRPOP, one second) is
# over. A message that is sent sooner may be delivered to this process, and would be lost with it.
LAST_POLL_S = 1.5
# Loaded if traces are on.
TRACES = "mira_worker.traces.traced_runner"
# Time to release jobs when the grace period is over.
RELEASE_S = 3.0


class Runtime:
    """Parts of a worker. Nothing connects before the first job."""

    def __init__(
        self,
        settings: Settings,
        accounts: Sequence[Account],
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
        self._results = results
        self._crash_points = crash_points
        self._single_jobs = single_jobs
        traces = load_traces(settings, TRACES)
        self._traces = traces and traces.Traces(settings)
        #: A runner for each account, by the account's id.
        self.runners = {account.id: self._runner(account) for account in accounts}
        self.groups = GroupRunner(
            ledger,
            self.runners,
            messages.send,
            messages.send_later,
            messages.send_groups,
            messages.single_waits,
            self.stopping,
            self.log,
        )
        lines = {account: runner.pacer.line for account, runner in self.runners.items()}
        self.yielding = LowPriorityYield(ledger, lines, messages.single_waits, self.stopping, self.log)
        self.clock = ClockWatch(ledger, self.log)
        runners = list(self.runners.values())
        self.rescuer = Rescuer(
            settings, ledger, self.leases, runners, messages.send, self.stopping, self.log, crash_points
        )

    def _runner(self, account: Account) -> JobRunner:
        """Return the runner of an account, with a pacer and connections of its own."""
        settings = self.settings
        assert account.key is not None, "a worker serves accounts whose key it has"
        pacer = Pacer(
            self.ledger,
            account.id,
            account.limits,
            # If the probe's worker crashes, another call probes when the first one must have ended.
            probe_lease=settings.request_timeout + timedelta(seconds=5),
            stopping=self.stopping,
            log=self.log,
            single_jobs=self._single_jobs,
        )
        client: Transport = MiraClient(
            account.base,
            account.key,
            account.headers,
            key_header=account.key_header,
            connect_timeout=settings.connect_timeout,
            total_timeout=settings.request_timeout,
            max_response_bytes=settings.max_response_bytes,
            connections=settings.concurrency,
        )
        make: Callable[..., JobRunner] = JobRunner
        if self._traces is not None:
            make, client = self._traces.runner(account.base), self._traces.transport(client)
        return make(
            settings,
            self.ledger,
            pacer,
            account.base,
            self.leases,
            client,
            self._results,
            self.stopping,
            self.log,
            self._crash_points,
        )

    def start(self) -> None:
        """Start the heartbeat, the pacer, and rescue, all on one core."""
        # First: after a jump of the server's clock, the report would have a wrong time.
        self.clock.start()
        self.rescuer.report_alive()
        self.leases.start()
        for runner in self.runners.values():
            wake_ups = self.ledger.wake_ups(runner.account, runner.pacer.line.process)
            PacerThread(runner.pacer.line, wake_ups, self.stopping, self.log).start()
        self.groups.start()
        self.yielding.start()
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
        for runner in self.runners.values():
            threading.Thread(target=runner.pacer.line.stop, daemon=True).start()
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
                self.runners[lease.account].pacer.abandon_call(lease.job_id, lease.epoch)
            for account in self.runners:
                for lane in (Lane.FIRST, Lane.LOW):
                    mine = [lease.job_id for lease in released if (lease.account, lease.lane) == (account, lane)]
                    self._send(account, mine, lane)
            self.log.warning("jobs_released", jobs=len(held))
        except QueueUnavailable as error:
            self.log.warning("release_failed", jobs=len(held), error=str(error))
        self.close()
        exit_now()

    def close(self) -> None:
        """Export the last spans, if traces are on."""
        if self._traces is not None:
            self._traces.close()
