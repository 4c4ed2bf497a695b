"""The work on one batch: its account, its plan, its engine, its open jobs, and the batch as it is stored."""

from __future__ import annotations

import threading
import time
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta

from mira_producer.batches import progress
from mira_producer.batches.owner import Owner
from mira_producer.batches.spool import Spool
from mira_producer.client import MiraQueue
from mira_producer.engine.engine import Engine, Hooks
from mira_producer.engine.plan import Plan
from mira_producer.engine.previous_results import prices_of
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import NOTHING
from mira_producer.jsonl.errors import InvalidInput
from mira_producer.report.recorder_file import Recording
from mira_producer.request_check import check_of
from mira_producer.text import plural
from mira_queue.contract.account import Account, is_named
from mira_queue.contract.batch import Batch, BatchFiles, BatchStatus, Reason, is_simulated
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import QueueUnavailable, UnknownAccount
from mira_queue.contract.settings import Settings, SettingsError
from mira_queue.runtime.accounts_file import load_accounts

POLL_S = 0.5
WRITE_EVERY_S = 1.0


class Execution:
    """Work on one batch. The supervisor decides what happens, and this class has what it needs for it.

    `interrupted` ends the engine's run: it is set when a command arrives, or when the process is to end. `plan` is the
    last plan. It keeps its counts when it is closed. `may_have_open_jobs` is True if a process before this one may have
    been killed with open jobs that were not found yet.
    """

    def __init__(self, queue: MiraQueue, batch: Batch, files: BatchFiles, owner: Owner, *, window: int) -> None:
        self._queue = queue
        self.batch = batch
        #: Another account's key never runs the batch, even if it is the one that this process has.
        self.account = queue.accounts.with_id(batch.account) if batch.account else queue.accounts.current
        self._files = files
        self._owner = owner
        self._window = window
        self.interrupted = threading.Event()
        self.recording = Recording(files.record, progress.why_idle(batch), owner.say)
        self.plan: Plan | None = None
        self.engine: Engine | None = None
        self._poll_s = self._write_s = 0.0
        self.may_have_open_jobs = True

    def close(self) -> None:
        """Close the files."""
        if self.plan is not None:
            self.plan.close()

    @property
    def settings(self) -> Settings:
        """The settings, with the accounts file of the process that has submitted the batch: it may be another one."""
        settings = self._queue.settings
        file = Spool(settings.state_dir).accounts_file(self.batch.id)
        return settings.model_copy(update={"accounts_file": file}) if file and file.exists() else settings

    def find_account(self) -> None:
        """Take the batch's account as it is defined now. Raises UnknownAccount and SettingsError.

        Without its definition, its requests would be checked as those of another one, and be other jobs.
        """
        self.account = self._known_account()

    def base_of_account(self) -> str:
        """Return the base of the batch's account now; an empty one if the account is not defined."""
        with suppress(UnknownAccount, SettingsError):
            return self._known_account().base
        return ""

    def _known_account(self) -> Account:
        accounts = load_accounts(self.settings)
        name = self.batch.account
        if not name:
            return accounts.current
        return accounts.named(name) if is_named(name) else accounts.with_id(name)

    def ready_plan(self, *, resumes: bool = False) -> Plan | None:
        """Return the plan; None if the input is wrong, and the batch has failed.

        Changed lines are pending if the user wants that; with `resumes`, also lines that the account rejected.
        """
        plan = self.plan
        if plan is None or not plan.is_open:
            try:
                prices = prices_of(self._files)
                simulated = is_simulated(self.batch.id)
                options, check = self.batch.options, check_of(self._queue.settings, self.account)
                plan = self.take(Plan(self._files, options, prices, check, simulated=simulated))
            except InvalidInput as error:
                # Only an input that was never checked can be wrong; later, the disk or another program is to blame.
                if self.batch.status is not BatchStatus.VALIDATING:
                    raise
                # The user does not know the path of our copy.
                problems = tuple(replace(each, path=self.batch.input_name) for each in error.problems)
                self.move(BatchStatus.FAILED, errors=problems, errors_left_out=error.count - len(problems))
                return None
        plan.options = self.batch.options
        # Even if they get an error instead, after a deadline or a cancel: with the old answer, they would have both.
        if (resumes or plan.changed.reruns) and (count := plan.remove_changed()):
            lines = plural(count, "changed line")
            self._owner.say(f"{lines} to answer again; old answers are in {plan.replaced_answers}")
        if resumes:
            plan.retry_errors()
            self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        self.recording.recorder.waits("")
        return plan

    def take(self, plan: Plan) -> Plan:
        """Continue with this plan, and with the counts that the last one cannot know."""
        if self.plan is not None:
            plan.billed = self.plan.billed
        plan.before.add_lost(progress.withdrawn_before(self.batch), self.batch.model)
        self.batch = replace(self.batch, group=plan.group)
        plan.stats.recorder = self.recording.recorder
        self.plan = plan
        return plan

    def new_engine(self, plan: Plan) -> Engine:
        """Return an engine for the plan. The caller closes it."""
        hooks = Hooks(self._show, self._owner.say, self._tend, self._owner.lines_ahead)
        self.engine = Engine(
            self._queue,
            plan,
            hooks,
            self.interrupted,
            window=self._window,
            careful=self.batch.careful,
            account=self.account,
        )
        return self.engine

    def recover_open_jobs(self, code: str = "") -> bool:
        """Find and withdraw open jobs; with a code, every line that has no answer gets that error.

        Return False if the process is to end first. Calls in flight may finish: those of a supervisor that was killed
        now, our own had their time when the engine was drained.
        """
        with suppress(UnknownAccount, SettingsError):
            self.find_account()
        plan = self.ready_plan()
        assert plan is not None
        with closing(self.new_engine(plan)) as engine:
            engine.window.find_open()
            patience = self._queue.settings.grace if self.may_have_open_jobs else timedelta(0)
            engine.drain(patience, self._owner.hurry)
            self.may_have_open_jobs = self._owner.stopping.is_set()
            if code and not self.may_have_open_jobs:
                engine.give_up(code, "the batch was cancelled")
            self.write(self.counted(plan))
        return not self.may_have_open_jobs

    def delete_jobs(self, job_ids: list[str]) -> None:
        """Delete jobs of lines that are retried: a supervisor that was killed may have left them, with their error."""
        ledger = self._queue.ledger
        ledger.delete(self.account.id, zip(job_ids, ledger.keys_of(job_ids), strict=True))
        self._queue.crash_points.reach(CrashPoint.AFTER_DELETE)

    def _tend(self) -> None:
        self._owner.tend()
        if self._owner.stopping.is_set():
            self.interrupted.set()
        now_s = time.monotonic()
        if now_s < self._poll_s:
            return
        self._poll_s = now_s + POLL_S
        with suppress(QueueUnavailable):
            if self._owner.command() is not None:
                self.interrupted.set()

    def _show(self, stats: Stats, reason: Reason) -> None:
        assert self.plan is not None
        batch = self.counted(self.plan, reason)
        self._owner.show(batch)
        now_s = time.monotonic()
        if now_s >= self._write_s:
            self._write_s = now_s + WRITE_EVERY_S
            self.write(batch)
        self.recording.save_if_due()

    def counted(self, plan: Plan, reason: Reason = NOTHING) -> Batch:
        """Return the batch with the counts of now."""
        held = tuple(self.engine.account_errors.held) if self.engine else ()
        careful = self.batch.careful and not plan.stats.succeeded
        return replace(progress.counted(self.batch, plan.before, plan.stats, reason), careful=careful, held_models=held)

    def move(self, status: BatchStatus, **changes: object) -> None:
        """Write the batch with a new status, at rest: the next count is written with its rate."""
        self._owner.moved(status)
        self.write(progress.at_rest(self.batch.moved(status, int(time.time()), **changes)), is_change=True)

    def change(self, **changes: object) -> None:
        """Write the batch with these changes, at rest."""
        self.write(replace(progress.at_rest(self.batch), **changes), is_change=True)  # type: ignore[arg-type]

    def write(self, batch: Batch, *, is_change: bool = False) -> None:
        """Store the batch; after a change, first a copy of it next to its files."""
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
