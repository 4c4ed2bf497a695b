"""The supervisor of one batch: it checks, runs, pauses, resumes, cancels, and finishes it, as its owner commands."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta

from mira_producer.batches.owner import Owner
from mira_producer.batches.progress import at_rest, counted, final_status, why_idle, with_lost, withdrawn_before
from mira_producer.client import MiraQueue
from mira_producer.engine.engine import Engine, Hooks
from mira_producer.engine.options import End, is_late, with_new_limits
from mira_producer.engine.plan import Plan, group_of
from mira_producer.engine.previous_results import prices_of, used
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import LABELS, NOTHING
from mira_producer.jsonl.errors import InputChanged, InputError, InvalidInput
from mira_producer.jsonl.remove_errors import has_status, remove_errors
from mira_producer.report.recorder_file import Recording
from mira_producer.request_check import check_of
from mira_producer.text import plural
from mira_queue.contract.account import Account, is_named
from mira_queue.contract.batch import (
    CANCELLED_CODE,
    Batch,
    BatchFiles,
    BatchOptions,
    BatchStatus,
    PausedBy,
    Reason,
    is_simulated,
)
from mira_queue.contract.commands import Adopt, Cancel, Pause, Resume, Retry
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import AccountConflict, QueueUnavailable, UnknownAccount
from mira_queue.contract.names import ACCOUNT_TTL
from mira_queue.contract.settings import SettingsError
from mira_queue.ledger.records import LostCalls
from mira_queue.runtime.accounts_file import load_accounts, path_of

POLL_S = 0.5
WRITE_EVERY_S = 1.0
# The pause before files that could not be used are tried again without a command.
RETRY_FILES_S = 5.0


class Supervisor:
    """Supervises one batch, in the thread that calls `run`, until it has ended or its owner stops the process.

    `window` is the maximum number of open jobs. A `plan` that was made before is used instead of a new one; `close`
    closes it. `end` and `reason` are why the batch stopped, also as a message.
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
        self.batch = batch
        #: Another account's key never runs the batch, even if it is the one that this process has.
        self._account = queue.accounts.with_id(batch.account) if batch.account else queue.accounts.current
        self._files = files
        self._owner = owner
        self._window = window
        self._interrupted = threading.Event()
        self._recording = Recording(files.record, why_idle(batch), owner.say)
        #: The last plan. It keeps its counts when it is closed.
        self.plan: Plan | None = None
        self.engine: Engine | None = None
        self._poll_s = self._write_s = 0.0
        #: A process before this one may have been killed with open jobs that were not found yet.
        self._may_have_open_jobs = True
        self.end, self.reason = End.COMPLETE, End.COMPLETE.value
        if plan is not None:
            self._take(plan)

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
                if not isinstance(error, AccountConflict) or error.base == self._base_of_file():
                    self._pause_without_account(error)
            except (InputError, OSError) as error:
                self.end, self.reason = End.FILES, str(error)
                self._pause("files", error.brief if isinstance(error, InputError) else str(error))
                if self._owner.waits("files"):
                    self._owner.stopping.wait(RETRY_FILES_S)
        if self.batch.status.is_final:
            return
        if self.batch.is_run and self._owner.stopping.is_set() and self.end in (End.COMPLETE, End.INTERRUPTED):
            self.end, self.reason = End.INTERRUPTED, End.INTERRUPTED.value
            self._pause("interrupt", "interrupted: run the same command again")
        else:
            self._recording.save()
            self._change()

    def _pause_without_account(self, error: Exception) -> None:
        text = str(error).replace("\n", "; ")
        if isinstance(error, UnknownAccount):
            text += f"; the supervisor of this batch reads {path_of(self._queue.settings)}: define it there, and resume"
        self.end, self.reason = End.ACCOUNT, text
        self._pause("account", text)

    def close(self) -> None:
        """Close the files."""
        if self.plan is not None:
            self.plan.close()

    def _continues(self) -> bool:
        if self._owner.stopping.is_set():
            return False
        if self.batch.status.is_final:
            return self._is_reopened()
        return not self.batch.paused or self._owner.waits(self.batch.paused_by)

    def _is_reopened(self) -> bool:
        """Return True if a retry was commanded while the batch was ending: the command relies on this supervisor."""
        try:
            if self.batch.status is BatchStatus.FAILED or not isinstance(self._owner.command(), Retry):
                return False
            self._move(BatchStatus.IN_PROGRESS)
        except QueueUnavailable:
            return False
        return True

    def _step(self) -> None:
        """Carry out a command, or run, or wait."""
        command = self._owner.command()
        if isinstance(command, Cancel) or self.batch.status is BatchStatus.CANCELLING:
            if not self._cancel():
                return
        elif isinstance(command, Pause):
            # A killed supervisor may have left open jobs.
            has_begun = self._may_have_open_jobs and self.batch.status is not BatchStatus.VALIDATING
            if has_begun and not self._recover_open_jobs():
                return
            self._pause("owner", "by a command")
        elif isinstance(command, Resume):
            self._resume(with_new_limits(self.batch.options, command))
        elif isinstance(command, Retry):
            self._retry(command)
        elif isinstance(command, Adopt):
            if not self._adopt(command.account):
                return
        elif self.batch.paused and not is_late(self.batch.options):
            self._owner.tend()
            self._owner.show(self.batch)
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
        if self.batch.status is not BatchStatus.VALIDATING:
            self._may_have_open_jobs = True
            if not self._recover_open_jobs():
                return False
            assert self.engine is not None
            # The job of a crashed worker moves: perhaps no worker of the old account is left to end it.
            moved, duplicates = self._queue.ledger.adopt(self._account.id, account, list(self.engine.window.open))
            if len(moved) + duplicates < self.engine.open_jobs:
                self._owner.tend()
                self._owner.stopping.wait(POLL_S)
                return False
            if self.batch.paused and not self._owner.keeps_files:
                self.close()
        self._account = self._queue.accounts.with_id(account)
        self._change(account=account)
        return True

    def _resume(self, options: BatchOptions) -> None:
        # An account that rejected a line may reject the next one: one line checks.
        careful = self.batch.careful or self.batch.paused_by == "account"
        if self.plan is not None and self.plan.is_open:
            self.plan.used_before = used(self._files, self.plan.prices)
        self._change(options=options, paused="", paused_by="", careful=careful)
        self._queue.ledger.probe_now(self._account.id)
        self._owner.say("resumed")

    def _retry(self, command: Retry) -> None:
        # The error file is replaced by another one.
        self.close()
        count = remove_errors(self._files.errors, has_status(command.statuses), self._delete_jobs)
        self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        self._owner.say(f"{count:,} failed lines run again")
        # A user who retries lines after the deadline wants them run without it.
        options = self.batch.options
        self._resume(replace(options, deadline_s=0) if is_late(options) else options)

    def _known_account(self) -> Account:
        """Return the batch's account as it is defined now. Raises UnknownAccount and SettingsError.

        Without its definition, its requests would be checked as those of another one, and be other jobs.
        """
        accounts = load_accounts(self._queue.settings)
        name = self.batch.account
        if not name:
            return accounts.current
        return accounts.named(name) if is_named(name) else accounts.with_id(name)

    def _base_of_file(self) -> str:
        """Return the base of the batch's account now; an empty one if the account is not defined."""
        with suppress(UnknownAccount, SettingsError):
            return self._known_account().base
        return ""

    def _run(self) -> None:
        self._interrupted.clear()
        try:
            self._account = self._known_account()
        except (UnknownAccount, SettingsError):
            # A batch that has expired submits nothing: it ends without its account, too.
            if not is_late(self.batch.options):
                raise
        plan = self._ready_plan(resumes=not is_late(self.batch.options))
        if plan is None:
            return
        self._queue.crash_points.reach(CrashPoint.AFTER_CHECK)
        ledger = self._queue.ledger
        if self.batch.is_run and self._may_have_open_jobs:
            # Lines may have changed since a process was killed: the jobs of their old requests would be billed for
            # nothing. Lines that have not changed are submitted again.
            account = self._account.id
            ledger.remove_unstarted(account, ledger.unstarted_of(account, plan.group, only_uncalled=True))
        with closing(self._new_engine(plan)) as engine:
            self.batch = self._counted(plan)
            if self.batch.status is BatchStatus.IN_PROGRESS:
                self._write(self.batch)
            else:
                self._move(BatchStatus.IN_PROGRESS)
            # After the batch is written, which names its group: a command holds the group, or is found here.
            if not ledger.unhold(self.batch.id, plan.group, self._account.id):
                return
            # An account that was rejected may be fixed by now. A Retry-After is honored.
            ledger.probe_now(self._account.id, ends_waits_over=ACCOUNT_TTL)
            try:
                end = engine.run()
            except (InputError, AccountConflict):
                self.batch = self._counted(plan)
                self._may_have_open_jobs = True
                engine.withdraw()
                raise
            if end is not End.COMPLETE:
                end = self._drain(engine, plan, end)
            # Jobs that are left when the process ends are found by the next supervisor.
            self._may_have_open_jobs = self._owner.stopping.is_set()
            if end is End.EXPIRED:
                engine.expire()
            # An editor that was open may have replaced a file after its last line was written.
            plan.check_files()
            self._write(self._counted(plan))
        if plan.left == 0 and end is not End.EXPIRED:
            end = End.COMPLETE
        self.end, self.reason = end, engine.reason(end)
        if end is End.COMPLETE:
            self._finish(final_status(self.batch))
        elif end is End.EXPIRED:
            self._finish(BatchStatus.EXPIRED)
        elif end is End.ACCOUNT:
            self._pause("account", f"the account was rejected: {self.reason}")
        elif end is End.BUDGET:
            self._pause("budget", self.reason)

    def _drain(self, engine: Engine, plan: Plan, end: End) -> End:
        """Let calls in flight end. Return INTERRUPTED if some were not waited for."""
        if isinstance(self._owner.command(), Cancel):
            self._move(BatchStatus.CANCELLING)
        settings = self._queue.settings
        if self.batch.is_run or not self._owner.stopping.is_set():
            with suppress(QueueUnavailable):
                self._queue.ledger.hold(plan.group)
        if self._owner.stopping.is_set():
            self._owner.say("stopping: calls in flight may finish, other lines stay for the next run (again: stop now)")
        elif end is End.EXPIRED:
            self._owner.say("the deadline has passed: calls in flight may finish, other lines are not run")
        # A call that was made before the deadline may take its time.
        engine.drain(settings.request_timeout if end is End.EXPIRED else settings.grace, self._owner.hurry)
        return End.INTERRUPTED if self._owner.hurry.is_set() and engine.open_jobs else end

    def _ready_plan(self, *, resumes: bool = False) -> Plan | None:
        """Return the plan; None if the input is wrong, and the batch has failed.

        Changed lines are pending if the user wants that; with `resumes`, also lines that the account rejected.
        """
        plan = self.plan
        if plan is None or not plan.is_open:
            try:
                prices = prices_of(self._files)
                simulated = is_simulated(self.batch.id)
                options, check = self.batch.options, check_of(self._queue.settings, self._account)
                plan = self._take(Plan(self._files, options, prices, check, simulated=simulated))
            except InvalidInput as error:
                # Only an input that was never checked can be wrong; later, the disk or another program is to blame.
                if self.batch.status is not BatchStatus.VALIDATING:
                    raise
                # The user does not know the path of our copy.
                problems = tuple(replace(each, path=self.batch.input_name) for each in error.problems)
                self._move(BatchStatus.FAILED, errors=problems, errors_left_out=error.count - len(problems))
                return None
        plan.options = self.batch.options
        # Even if they get an error instead, after a deadline or a cancel: with the old answer, they would have both.
        if (resumes or plan.changed.reruns) and (count := plan.remove_changed()):
            lines = plural(count, "changed line")
            self._owner.say(f"{lines} to answer again; old answers are in {plan.replaced_answers}")
        if resumes:
            plan.retry_errors()
            self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        self._recording.recorder.waits("")
        return plan

    def _take(self, plan: Plan) -> Plan:
        if self.plan is not None:
            plan.billed = self.plan.billed
        plan.before.add_lost(withdrawn_before(self.batch), self.batch.model)
        self.batch = replace(self.batch, group=plan.group)
        plan.stats.recorder = self._recording.recorder
        self.plan = plan
        return plan

    def _new_engine(self, plan: Plan) -> Engine:
        hooks = Hooks(self._show, self._owner.say, self._tend)
        self.engine = Engine(
            self._queue,
            plan,
            hooks,
            self._interrupted,
            window=self._window,
            careful=self.batch.careful,
            account=self._account,
        )
        return self.engine

    def _finish(self, status: BatchStatus) -> None:
        self._move(BatchStatus.FINALIZING)
        self._queue.crash_points.reach(CrashPoint.AFTER_FINALIZING)
        self._recording.recorder.waits("")
        self._recording.save(ended=True)
        if not self._owner.keeps_files:
            self.close()
        self._move(status, paused="", paused_by="", careful=False)

    def _cancel(self) -> bool:
        """Return False if the process is to end first."""
        if self.batch.status is not BatchStatus.CANCELLING:
            self._move(BatchStatus.CANCELLING)
        try:
            if not self._recover_open_jobs(CANCELLED_CODE):
                return False
        except (InvalidInput, InputChanged) as error:
            # The input is wrong, and was not checked before: there is no line to name.
            self._owner.say(str(error))
        # A killed process may have left jobs of lines that have changed since. When the hold expires, they would run.
        ledger, account = self._queue.ledger, self._account.id
        for lost in ledger.remove_unstarted(account, ledger.unstarted_of(account, group_of(self._files.output))):
            self.batch = with_lost(self.batch, lost or LostCalls())
        self.end, self.reason = End.CANCELLED, End.CANCELLED.value
        self._finish(BatchStatus.CANCELLED)
        return True

    def _recover_open_jobs(self, code: str = "") -> bool:
        """Find and withdraw open jobs; with a code, every line that has no answer gets that error.

        Return False if the process is to end first. Calls in flight may finish: those of a supervisor that was killed
        now, our own had their time when the engine was drained.
        """
        with suppress(UnknownAccount, SettingsError):
            self._account = self._known_account()
        plan = self._ready_plan()
        assert plan is not None
        with closing(self._new_engine(plan)) as engine:
            engine.window.find_open()
            patience = self._queue.settings.grace if self._may_have_open_jobs else timedelta(0)
            engine.drain(patience, self._owner.hurry)
            self._may_have_open_jobs = self._owner.stopping.is_set()
            if code and not self._may_have_open_jobs:
                engine.give_up(code, "the batch was cancelled")
            self._write(self._counted(plan))
        return not self._may_have_open_jobs

    def _delete_jobs(self, job_ids: list[str]) -> None:
        """Delete jobs of lines that are retried: a supervisor that was killed may have left them, with their error."""
        ledger = self._queue.ledger
        ledger.delete(self._account.id, zip(job_ids, ledger.keys_of(job_ids), strict=True))
        self._queue.crash_points.reach(CrashPoint.AFTER_DELETE)

    def _pause(self, by: PausedBy, reason: str) -> None:
        self._recording.recorder.waits("paused")
        self._recording.save()
        if not self._owner.keeps_files:
            self.close()
        self._change(paused=reason, paused_by=by)
        self._owner.paused(by, reason)

    def _tend(self) -> None:
        self._owner.tend()
        if self._owner.stopping.is_set():
            self._interrupted.set()
        now_s = time.monotonic()
        if now_s < self._poll_s:
            return
        self._poll_s = now_s + POLL_S
        with suppress(QueueUnavailable):
            if self._owner.command() is not None:
                self._interrupted.set()

    def _show(self, stats: Stats, reason: Reason) -> None:
        assert self.plan is not None
        batch = self._counted(self.plan, reason)
        self._owner.show(batch)
        now_s = time.monotonic()
        if now_s >= self._write_s:
            self._write_s = now_s + WRITE_EVERY_S
            self._write(batch)
        self._recording.save_if_due()

    def _counted(self, plan: Plan, reason: Reason = NOTHING) -> Batch:
        held = tuple(self.engine.account_errors.held) if self.engine else ()
        careful = self.batch.careful and not plan.stats.succeeded
        return replace(counted(self.batch, plan.before, plan.stats, reason), careful=careful, held_models=held)

    def _move(self, status: BatchStatus, **changes: object) -> None:
        """Write the batch with a new status, at rest: the next count is written with its rate."""
        self._owner.moved(status)
        self._write(at_rest(self.batch.moved(status, int(time.time()), **changes)), is_change=True)

    def _change(self, **changes: object) -> None:
        """Write the batch with these changes, at rest."""
        self._write(replace(at_rest(self.batch), **changes), is_change=True)  # type: ignore[arg-type]

    def _write(self, batch: Batch, *, is_change: bool = False) -> None:
        batch = replace(batch, updated_at=int(time.time()))
        if is_change and not batch.is_run:
            # First: if the ledger's data are lost right after the write, the copy is not older than what users saw.
            self._queue.batches.spool.remember(batch)
        try:
            self._queue.ledger.write_batch(batch)
        except QueueUnavailable:
            # The files of a run are its record: it does not wait for the ledger.
            if not batch.is_run:
                raise
        self.batch = batch
