"""The engine of a run: it executes a plan, from its pending lines to its output and error file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice

from mira_producer.client import MiraQueue
from mira_producer.engine.account_errors import AccountErrors
from mira_producer.engine.options import End, is_late
from mira_producer.engine.pending_lines import pending_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Finished
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import LABELS, Watch
from mira_producer.engine.window import Window, not_answered
from mira_producer.jsonl.request_line import OpenLine
from mira_producer.request_check import default_model
from mira_queue.contract.account import Account
from mira_queue.contract.batch import EXPIRED_CODE, Reason
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.accounts import PaceView
from mira_queue.ledger.records import new_job_id

# Lines that were never run, written and synced together.
MAX_NEVER_RUN = 1000
COLLECT_S = 0.2
# Answers that arrive within this time are written, and synced, together: one by one, each would cost ten times as much.
GATHER_S = 0.1
# An announcement can be lost with the run that received it: all open jobs are checked this often.
CHECK_OPEN_S = 5.0
# Lines of a model that the plan lacks are withdrawn this often, as far as they have not started.
WITHDRAW_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Hooks:
    """Functions called between an engine's steps, from the thread of `run`. Each is called often, and must be quick.

    `show` gets the counts and the reason for waiting, `say` a message, `tend` checks workers and commands (an exception
    of it ends the run). `lines_ahead` gets the account's limit of calls in flight (0 if it is unknown), and returns how
    many lines go ahead of the others.
    """

    show: Callable[[Stats, Reason], None]
    say: Callable[[str], None]
    tend: Callable[[], None]
    lines_ahead: Callable[[int], int] = lambda limit: 0


class Engine:
    """Executes a plan: `run`, after an early end `drain`, then `close`. The plan stays open, for another engine.

    Setting `interrupted` ends the run. `window` is the maximum number of open jobs. A `careful` engine submits one
    line, and the others when the account has not rejected that. `account` is that of the lines' jobs; None: the current
    one.
    """

    def __init__(
        self,
        queue: MiraQueue,
        plan: Plan,
        hooks: Hooks,
        interrupted: threading.Event,
        *,
        window: int,
        careful: bool = False,
        account: Account | None = None,
    ) -> None:
        account = account or queue.accounts.current
        self._queue = queue
        self._plan = plan
        self._hooks = hooks
        self._interrupted = interrupted
        self.account_errors = AccountErrors(plan.options.on_account_error, default_model(queue.settings, account))
        self._spending = plan.spending()
        self.window = Window(queue, plan, account, self.account_errors, self._spending, size=window, careful=careful)
        self._watch = Watch(
            lambda: queue.ledger.pace_view(account.id),
            lambda: self.open_jobs,
            resting=lambda: self.window.resting,
            configured=account.limits,
            seen=self._record,
        )
        self._held: set[str] = set()
        self._limit = 0
        self._next_withdrawal_s = 0.0
        self._collected_s = time.monotonic()
        self._next_check_s = time.monotonic() + CHECK_OPEN_S

    @property
    def open_jobs(self) -> int:
        """Jobs that were submitted and have not finished."""
        return len(self.window.open)

    def reason(self, end: End) -> str:
        """Return why the run ended, as a message."""
        if end is End.ACCOUNT and self.account_errors.error:
            return self.account_errors.text()
        if end is End.BUDGET and self._spending:
            return self._spending.words()
        return end.value

    def run(self) -> End:
        """Submit lines and write outcomes until every line has ended, or until there is a reason to end earlier.

        Raise InputError if a file cannot be used any more.
        """
        while True:
            self._hooks.tend()
            # After that: a command that has just been seen submits nothing more.
            if (end := self._end()) is not None:
                break
            try:
                self._advance()
            except QueueUnavailable as error:
                # Accepted jobs are durable, and lines that were not accepted are submitted again.
                self._hooks.say(f"{LABELS['server']}: {error}")
                self._interrupted.wait(1.0)
        if end is End.EXPIRED:
            # Submitting finds them otherwise.
            self.window.find_open()
        if self._plan.left:
            return end
        self._put_in_order()
        return End.COMPLETE

    def drain(self, patience: timedelta, hurry: threading.Event) -> None:
        """After an early end: withdraw jobs that have not started, and write those that finish.

        Wait for calls in flight, for at most `patience`, or until `hurry` is set.
        """
        end_s = time.monotonic() + patience.total_seconds()
        while not hurry.is_set():
            try:
                # First: workers return the jobs that wait for a permit, and start no more of them.
                self._queue.ledger.hold(self._plan.group)
                # Every time: a running job that was rate-limited or met a fault waits now, and can be withdrawn.
                self.window.withdraw()
                if not self.window.open or time.monotonic() >= end_s:
                    break
                self._collect(COLLECT_S)
            except QueueUnavailable as error:
                if time.monotonic() >= end_s:
                    break
                self._hooks.say(f"{LABELS['server']}: {error}")
                hurry.wait(1.0)
        self._put_in_order()

    def withdraw(self) -> None:
        """Withdraw jobs that have not started when the files cannot be written; the next run finds those that run."""
        self._queue.ledger.hold(self._plan.group)
        self.window.withdraw()

    def expire(self) -> None:
        """After EXPIRED and `drain`: write an error for every line that has not ended."""
        deadline = datetime.fromtimestamp(self._plan.options.deadline_s, UTC)
        self.give_up(EXPIRED_CODE, f"the deadline, {deadline:%Y-%m-%d %H:%M:%S UTC}, passed")

    def give_up(self, code: str, why: str) -> None:
        """Write this error for every line that has neither answer nor error, and cancel what still runs.

        Lines that the account rejected keep that error.
        """
        self.window.abandon(code, why)
        lines = pending_lines(self._plan.files.input, self._plan.check, self._plan.index)
        while chunk := list(islice(lines, MAX_NEVER_RUN)):
            finished = []
            for line in chunk:
                # A call that was lost with a withdrawn job is counted already, but not by the line.
                failure = replace(not_answered(code, why, self._plan.billed[line.number]), unanswered_calls=0)
                finished.append(Finished(new_job_id(), OpenLine(line.number, line.custom_id), failure))
            self.window.writer.write(finished)
        self._plan.make_errors_final()
        self._put_in_order()

    def close(self) -> None:
        """Delete what the ledger keeps of the run, unless a job is open."""
        self.window.close()

    def _end(self) -> End | None:
        """Return the reason to end now; None if there is none."""
        if self.account_errors.stop:
            return End.ACCOUNT
        if self.window.is_submitted and not self.window.open:
            return End.ACCOUNT if self.account_errors.held else End.COMPLETE
        if self._interrupted.is_set():
            return End.INTERRUPTED
        if is_late(self._plan.options):
            return End.EXPIRED
        return End.BUDGET if self.window.is_out_of_budget else None

    def _advance(self) -> None:
        if self._can_submit():
            self.window.fill()
            self.window.send_ahead(self._hooks.lines_ahead(self._limit))
            # First a full window, then answers: an idle wait only if there is nothing else to do.
            self._collect(0.01 if self._can_submit() else COLLECT_S)
        else:
            self.window.send_ahead(self._hooks.lines_ahead(self._limit))
            self._interrupted.wait(max(0.0, self._collected_s + GATHER_S - time.monotonic()))
            self._collect(COLLECT_S)
        self._hold_models()

    def _can_submit(self) -> bool:
        return not self.window.is_submitted and self.window.has_room()

    def _collect(self, timeout_s: float) -> None:
        self.window.collect(timeout_s)
        self._collected_s = time.monotonic()
        if time.monotonic() >= self._next_check_s:
            self._next_check_s = time.monotonic() + CHECK_OPEN_S
            self.window.check_open()
        self._hooks.show(self._plan.stats, self._watch.reason())

    def _hold_models(self) -> None:
        """Withdraw lines of a model that the plan lacks, before each of them is rejected as well."""
        held = self.account_errors.held.keys()
        new = held - self._held
        if not held or (not new and time.monotonic() < self._next_withdrawal_s):
            return
        # Repeatedly: a job that a worker had claimed returns to the queue, and would run when the rejection expires.
        self._next_withdrawal_s = time.monotonic() + WITHDRAW_EVERY_S
        self.window.withdraw(lambda line: line.model in held)
        self._held |= new
        for model in sorted(new):
            self._hooks.say(f"the account's plan lacks the model {model!r}: its lines are kept, all others are run")

    def _put_in_order(self) -> None:
        self._plan.put_in_order(between=lambda: self._queue.crash_points.reach(CrashPoint.AFTER_ORDER))

    def _record(self, view: PaceView, reason: Reason) -> None:
        self._limit = view.estimate.in_flight.max_calls if view.estimate.in_flight else 0
        if self._plan.stats.recorder is not None:
            self._plan.stats.recorder.sampled(view, reason)
