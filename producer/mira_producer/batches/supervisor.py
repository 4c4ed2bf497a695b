"""The supervisor of one batch: it checks, runs, pauses, resumes, cancels, and finishes it, as its owner commands."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace

from mira_producer.batches.execution import POLL_S, Execution
from mira_producer.batches.owner import Owner
from mira_producer.batches.progress import final_status, with_lost
from mira_producer.client import MiraQueue
from mira_producer.engine.engine import Engine
from mira_producer.engine.options import End, is_late, with_new_limits
from mira_producer.engine.plan import Plan, group_of
from mira_producer.engine.previous_results import used
from mira_producer.engine.wait_reason import LABELS
from mira_producer.jsonl.errors import InputChanged, InputError, InvalidInput
from mira_producer.jsonl.remove_errors import has_status, remove_errors
from mira_queue.contract.batch import CANCELLED_CODE, Batch, BatchFiles, BatchOptions, BatchStatus, PausedBy
from mira_queue.contract.commands import Adopt, Cancel, Pause, Resume, Retry
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import AccountConflict, QueueUnavailable, UnknownAccount
from mira_queue.contract.names import ACCOUNT_TTL
from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.records import LostCalls
from mira_queue.runtime.accounts_file import path_of

# The pause before files that could not be used are tried again without a command.
RETRY_FILES_S = 5.0


class Supervisor:
    """Supervises one batch, in the thread that calls `run`, until it has ended or its owner stops the process.

    `window` is the maximum number of open jobs. A `plan` that was made before is used instead of a new one;
    `close` closes it. `end` and `reason` are why the batch stopped, also as a message.
    """

    def __init__(
        self,
        queue: MiraQueue,
        batch: Batch,
        files: BatchFiles,
        owner: Owner,
        *,
        window: int,
        plan: Plan | None = None,
    ) -> None:
        self._queue = queue
        self.work = Execution(queue, batch, files, owner, window=window)
        self._files = files
        self._owner = owner
        self.end, self.reason = End.COMPLETE, End.COMPLETE.value
        if plan is not None:
            self.work.take(plan)

    def run(self) -> None:
        """Return when the batch has ended, or when this process is to do nothing more for it.

        After a crash, the next supervisor continues.
        """
        while self._continues():
            try:
                self._step()
            except QueueUnavailable as error:
                self._owner.say(f"{LABELS['server']}: {error}")
                self._owner.stopping.wait(1.0)
            except (AccountConflict, UnknownAccount, SettingsError) as error:
                # If the accounts file has another base by now, `accounts adopt` has moved the jobs there.
                if not isinstance(error, AccountConflict) or error.base == self.work.base_of_account():
                    self._pause_without_account(error)
            except (InputError, OSError) as error:
                self.end, self.reason = End.FILES, str(error)
                self._pause("files", error.brief if isinstance(error, InputError) else str(error))
                if self._owner.waits("files"):
                    self._owner.stopping.wait(RETRY_FILES_S)
        if self.work.batch.status.is_final:
            return
        if self.work.batch.is_run and self._owner.stopping.is_set() and self.end in (End.COMPLETE, End.INTERRUPTED):
            self.end, self.reason = End.INTERRUPTED, End.INTERRUPTED.value
            self._pause("interrupt", "interrupted: run the same command again")
        else:
            self.work.recording.save()
            self.work.change()

    def close(self) -> None:
        """Close the files."""
        self.work.close()

    def _pause_without_account(self, error: Exception) -> None:
        text = str(error).replace("\n", "; ")
        if isinstance(error, UnknownAccount):
            text += f"; the supervisor of this batch reads {path_of(self.work.settings)}: define it there, and resume"
        self.end, self.reason = End.ACCOUNT, text
        self._pause("account", text)

    def _continues(self) -> bool:
        if self._owner.stopping.is_set():
            return False
        if self.work.batch.status.is_final:
            return self._is_reopened()
        return not self.work.batch.paused or self._owner.waits(self.work.batch.paused_by)

    def _is_reopened(self) -> bool:
        """Return True if a retry was commanded while the batch was ending: the command relies on this supervisor."""
        try:
            if self.work.batch.status is BatchStatus.FAILED or not isinstance(self._owner.command(), Retry):
                return False
            self.work.move(BatchStatus.IN_PROGRESS)
        except QueueUnavailable:
            return False
        return True

    def _step(self) -> None:
        """Carry out a command, or run, or wait."""
        command = self._owner.command()
        if isinstance(command, Cancel) or self.work.batch.status is BatchStatus.CANCELLING:
            if not self._cancel():
                return
        elif isinstance(command, Pause):
            # A killed supervisor may have left open jobs.
            has_begun = self.work.may_have_open_jobs and self.work.batch.status is not BatchStatus.VALIDATING
            if has_begun and not self.work.recover_open_jobs():
                return
            self._pause("owner", "by a command")
        elif isinstance(command, Resume):
            self._resume(with_new_limits(self.work.batch.options, command))
        elif isinstance(command, Retry):
            self._retry(command)
        elif isinstance(command, Adopt):
            if not self._adopt(command.account):
                return
        elif self.work.batch.paused and not is_late(self.work.batch.options):
            self._owner.tend()
            self._owner.show(self.work.batch)
            self._owner.stopping.wait(POLL_S)
            return
        if command is not None:
            self._owner.acknowledge(command)
        else:
            self._run()

    def _adopt(self, account: str) -> bool:
        """Move the batch to another account. Return False if a call of the old one is still in flight.

        Its line would be sent once more, for the new account.
        """
        if self.work.batch.status is not BatchStatus.VALIDATING:
            self.work.may_have_open_jobs = True
            if not self.work.recover_open_jobs():
                return False
            assert self.work.engine is not None
            # The job of a crashed worker moves: perhaps no worker of the old account is left to end it.
            moved, duplicates = self._queue.ledger.adopt(
                self.work.account.id, account, list(self.work.engine.window.open)
            )
            if len(moved) + duplicates < self.work.engine.open_jobs:
                self._owner.tend()
                self._owner.stopping.wait(POLL_S)
                return False
            if self.work.batch.paused and not self._owner.keeps_files:
                self.work.close()
        self.work.account = self._queue.accounts.with_id(account)
        self.work.change(account=account)
        return True

    def _resume(self, options: BatchOptions) -> None:
        # An account that rejected a line may reject the next one: one line checks.
        careful = self.work.batch.careful or self.work.batch.paused_by == "account"
        if self.work.plan is not None and self.work.plan.is_open:
            self.work.plan.used_before = used(self._files, self.work.plan.prices)
        self.work.change(options=options, paused="", paused_by="", careful=careful)
        self._queue.ledger.probe_now(self.work.account.id)
        self._owner.say("resumed")

    def _retry(self, command: Retry) -> None:
        # The error file is replaced by another one.
        self.work.close()
        count = remove_errors(self._files.errors, has_status(command.statuses), self.work.delete_jobs)
        self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        self._owner.say(f"{count:,} failed lines run again")
        # A user who retries lines after the deadline wants them run without it.
        options = self.work.batch.options
        self._resume(replace(options, deadline_s=0) if is_late(options) else options)

    def _run(self) -> None:
        self.work.interrupted.clear()
        try:
            self.work.find_account()
        except (UnknownAccount, SettingsError):
            # A batch that has expired submits nothing: it ends without its account, too.
            if not is_late(self.work.batch.options):
                raise
        plan = self.work.ready_plan(resumes=not is_late(self.work.batch.options))
        if plan is None:
            return
        self._queue.crash_points.reach(CrashPoint.AFTER_CHECK)
        ledger = self._queue.ledger
        if self.work.batch.is_run and self.work.may_have_open_jobs:
            # Lines may have changed since a process was killed: the jobs of their old requests would be billed for
            # nothing. Lines that have not changed are submitted again.
            account = self.work.account.id
            ledger.remove_unstarted(account, ledger.unstarted_of(account, plan.group, only_uncalled=True))
        with closing(self.work.new_engine(plan)) as engine:
            self.work.batch = self.work.counted(plan)
            if self.work.batch.status is BatchStatus.IN_PROGRESS:
                self.work.write(self.work.batch)
            else:
                self.work.move(BatchStatus.IN_PROGRESS)
            # After the batch is written, which names its group: a command holds the group, or is found here.
            if not ledger.unhold(self.work.batch.id, plan.group, self.work.account.id):
                return
            # An account that was rejected may be fixed by now. A Retry-After is honored.
            ledger.probe_now(self.work.account.id, ends_waits_over=ACCOUNT_TTL)
            try:
                end = engine.run()
            except (InputError, AccountConflict):
                self.work.batch = self.work.counted(plan)
                self.work.may_have_open_jobs = True
                engine.withdraw()
                raise
            if end is not End.COMPLETE:
                end = self._drain(engine, plan, end)
            # Jobs that are left when the process ends are found by the next supervisor.
            self.work.may_have_open_jobs = self._owner.stopping.is_set()
            if end is End.EXPIRED:
                engine.expire()
            # An editor that was open may have replaced a file after its last line was written.
            plan.check_files()
            self.work.write(self.work.counted(plan))
        if plan.left == 0 and end is not End.EXPIRED:
            end = End.COMPLETE
        self.end, self.reason = end, engine.reason(end)
        if end is End.COMPLETE:
            self._finish(final_status(self.work.batch))
        elif end is End.EXPIRED:
            self._finish(BatchStatus.EXPIRED)
        elif end is End.ACCOUNT:
            self._pause("account", f"the account was rejected: {self.reason}")
        elif end is End.BUDGET:
            self._pause("budget", self.reason)

    def _drain(self, engine: Engine, plan: Plan, end: End) -> End:
        """Let calls in flight end. Return INTERRUPTED if some were not waited for."""
        if isinstance(self._owner.command(), Cancel):
            self.work.move(BatchStatus.CANCELLING)
        settings = self._queue.settings
        if self.work.batch.is_run or not self._owner.stopping.is_set():
            with suppress(QueueUnavailable):
                self._queue.ledger.hold(plan.group)
        if self._owner.stopping.is_set():
            self._owner.say("stopping: calls in flight may finish, other lines stay for the next run (again: stop now)")
        elif end is End.EXPIRED:
            self._owner.say("the deadline has passed: calls in flight may finish, other lines are not run")
        # A call that was made before the deadline may take its time.
        engine.drain(settings.request_timeout if end is End.EXPIRED else settings.grace, self._owner.hurry)
        return End.INTERRUPTED if self._owner.hurry.is_set() and engine.open_jobs else end

    def _finish(self, status: BatchStatus) -> None:
        self.work.move(BatchStatus.FINALIZING)
        self._queue.crash_points.reach(CrashPoint.AFTER_FINALIZING)
        self.work.recording.recorder.waits("")
        self.work.recording.save(ended=True)
        if not self._owner.keeps_files:
            self.work.close()
        self.work.move(status, paused="", paused_by="", careful=False)

    def _cancel(self) -> bool:
        """Return False if the process is to end first."""
        if self.work.batch.status is not BatchStatus.CANCELLING:
            self.work.move(BatchStatus.CANCELLING)
        try:
            if not self.work.recover_open_jobs(CANCELLED_CODE):
                return False
        except (InvalidInput, InputChanged) as error:
            # The input is wrong, and was not checked before: there is no line to name.
            self._owner.say(str(error))
        # A killed process may have left jobs of lines that have changed since. When the hold expires, they would run.
        ledger, account = self._queue.ledger, self.work.account.id
        for lost in ledger.remove_unstarted(account, ledger.unstarted_of(account, group_of(self._files.output))):
            self.work.batch = with_lost(self.work.batch, lost or LostCalls())
        self.end, self.reason = End.CANCELLED, End.CANCELLED.value
        self._finish(BatchStatus.CANCELLED)
        return True

    def _pause(self, by: PausedBy, reason: str) -> None:
        self.work.recording.recorder.waits("paused")
        self.work.recording.save()
        if not self._owner.keeps_files:
            self.work.close()
        self.work.change(paused=reason, paused_by=by)
        self._owner.paused(by, reason)
