"""A run in the foreground: a batch whose owner is at the terminal, with a display, signals, and workers of its own."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import astuple, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from rich.console import Console

from mira_producer.batches.lock import wait_for_lock
from mira_producer.batches.owner import Owner
from mira_producer.batches.spool import Spool, lock_of_run
from mira_producer.batches.supervisor import Supervisor
from mira_producer.cli.conclusion import Say, conclude
from mira_producer.cli.console import say as print_text
from mira_producer.cli.missing_key import no_key
from mira_producer.cli.own_simulator import simulated, start_own_simulator
from mira_producer.cli.paths import check_paths, made
from mira_producer.cli.problems import problem_lines
from mira_producer.cli.progress import Display, make_display
from mira_producer.client import MiraQueue
from mira_producer.cost.prices import DEFAULT_TABLE
from mira_producer.engine.earlier_account import adopt_text, open_jobs_of
from mira_producer.engine.options import End, is_late
from mira_producer.engine.plan import Plan, group_of
from mira_producer.engine.previous_results import prices_of
from mira_producer.fleet import STOP_MARGIN, Fleet
from mira_producer.interrupts import interrupts, interrupts_call
from mira_producer.jsonl.errors import InputError
from mira_producer.report.page import check_report, draw
from mira_producer.request_check import check_of
from mira_producer.text import plural
from mira_queue.contract.batch import Batch, BatchFiles, BatchOptions, BatchStatus, PausedBy, is_simulated, run_batch_id
from mira_queue.contract.commands import Cancel
from mira_queue.contract.errors import BatchNotFound
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.accounts_file import load_accounts
from mira_queue.runtime.network_path import network_path

# Open jobs for each call that can be in flight: enough that no worker waits for the next line.
WINDOW_PER_SLOT = 8
MIN_WINDOW = 2000


class Terminal(Owner):
    """The owner of a run: Ctrl-C stops it, a display shows it, and it obeys the ledger's commands, too.

    `events` are `stopping` and `hurry`.
    """

    keeps_files = True

    def __init__(self, ledger: Ledger, batch_id: str, display: Display, fleet: Fleet, *events: threading.Event) -> None:
        super().__init__(ledger, batch_id, *events)
        self._display = display
        self._fleet = fleet

    def tend(self) -> None:
        self._fleet.replace_crashed()

    def show(self, batch: Batch) -> None:
        self._display.show(batch)

    def say(self, text: str) -> None:
        self._display.say(text)

    def waits(self, paused_by: PausedBy) -> bool:
        return paused_by == "owner"

    def moved(self, status: BatchStatus) -> None:
        if status is BatchStatus.CANCELLING:
            self.say("cancelled by a command: calls in flight may finish, other lines are not run")

    def paused(self, by: PausedBy, reason: str) -> None:
        if by == "owner":
            self.say(f"paused by a command: mira-queue resume {self._batch_id} resumes it, Ctrl-C ends the run")


def run(
    source: Path,
    output: Path,
    errors: Path,
    options: BatchOptions,
    settings: Settings,
    console: Console,
    *,
    prices: Path | None = None,
    report: Path | None = None,
    workers: int = 1,
    simulator: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Run a file to its end, and return what `--json` prints.

    `simulator` are the options of a simulator that is started for it; None: the real API. Raise InputError (nothing was
    sent) and other MiraQueueErrors, each one clear line.
    """
    check_paths(source, output, errors)
    account = load_accounts(settings).current
    if simulator is None and account.key is None and workers:
        raise InputError(f"{no_key(settings, account)}, or try without a key: add --simulate")
    if simulator is None and workers:
        network_path(account.base)
    if report is not None:
        check_report(report, (source, output, errors))

    say = partial(print_text, console)
    where = ""
    if simulator is not None:
        settings = simulated(settings, group_of(output))
        account = load_accounts(settings).current
    batch_id = run_batch_id(group_of(output), simulated=simulator is not None)
    record = Spool(settings.state_dir).record_of_run(batch_id)
    files = BatchFiles(source, output, errors, record, prices or DEFAULT_TABLE)
    with ExitStack() as stack:
        check = check_of(settings, account)
        # Before anything is started: what is wrong with a run is most often its files.
        plan = Plan(files, options, prices_of(files), check, simulated=simulator is not None)
        stack.callback(plan.close)
        plan.check_changed()
        for line in problem_lines(plan.wrong_names.lines(), len(plan.wrong_names.found)):
            say(f"warning: {source}, {line}")
        if options.changed == "keep" and (kept := plan.changed.count):
            say(f"{plural(kept, 'changed line')} {'keeps its answer' if kept == 1 else 'keep their answers'}")
        if options.deadline_s and is_late(options) and plan.left == plan.stats.total:
            deadline = datetime.fromtimestamp(options.deadline_s).astimezone()
            raise InputError(f"--deadline: {deadline:%Y-%m-%d %H:%M:%S %Z} has passed already: nothing was sent")
        spending = plan.spending()
        supervisor = None
        end, reason = End.COMPLETE, End.COMPLETE.value
        if not plan.left:
            say(f"no line of {source} is pending: nothing was sent")
            if plan.stats.failed_before:
                say(f"to run the failed ones again, move {errors} away and run the same command again")
            if plan.put_in_order():
                say("the files are now in the order of the input")
        elif spending is not None and spending.is_spent:
            end, reason = End.BUDGET, spending.words()
        else:
            where = account.base
            if simulator is not None:
                made(settings.state_dir.parent)
            state_dir = made(settings.state_dir)
            if simulator is not None:
                url = start_own_simulator(simulator, state_dir / "simulator.log", stack)
                settings = settings.model_copy(update={"api_base": url})
                where = f"the simulator ({url})"
            target = where if simulator is None else f"{where}: no real answers"
            supervisor = _supervise(settings, plan, batch_id, target, workers, console)
            stack.callback(supervisor.close)
            plan, end, reason = supervisor.work.plan or plan, supervisor.end, supervisor.reason
        result = conclude(batch_id, plan, end, reason, say)
        if report is not None and supervisor is not None:
            _report(supervisor.work.batch, files, where, report, say, settings)
        elif report is not None:
            # A report of an earlier run is worth more than one of nothing.
            fix = f"mira-queue report {batch_id} -o {report}"
            say(f"report: {report} was not written, because nothing was sent; {fix} writes that of the earlier run")
        return result


def _supervise(
    settings: Settings, plan: Plan, batch_id: str, target: str, workers: int, console: Console
) -> Supervisor:
    """Supervise the run until it ends, with workers."""
    display = make_display(console)
    with ExitStack() as stack:
        queue = stack.enter_context(MiraQueue(settings))
        stack.callback(os.close, wait_for_lock(lock_of_run(plan.files)))
        Spool(settings.state_dir).remove_old_records(settings.result_ttl.total_seconds())
        if is_simulated(batch_id):
            # The simulator of this run has another port than that of an earlier one.
            queue.ledger.set_base(queue.accounts.current.id, queue.accounts.current.base)
        batch = _opened_batch(queue, batch_id, plan, display.say)
        _announce(batch_id, plan, target, display.say)
        for_workers = settings.model_copy(update={"redis_url": SecretStr(queue.redis_url)})
        fleet = Fleet(for_workers, workers, settings.state_dir / "worker.log", display.say)
        stack.callback(fleet.stop, settings.grace + STOP_MARGIN)
        fleet.start()
        stopping, hurry = stack.enter_context(interrupts())
        owner = Terminal(queue.ledger, batch_id, display, fleet, stopping, hurry)
        window = max(MIN_WINDOW, max(1, workers) * settings.concurrency * WINDOW_PER_SLOT)
        supervisor = Supervisor(queue, batch, plan.files, owner, window=window, plan=plan)
        with display:
            supervisor.run()
        open_jobs = supervisor.work.engine.open_jobs if supervisor.work.engine else 0
        # One more Ctrl-C stops the workers immediately, and leaves the summary.
        with interrupts_call(fleet.stop_now):
            # The run does not wait for jobs that are still open, so the workers need not either. If a file cannot be
            # used, they do wait: calls in flight are billed, and the next run finds their answers in the ledger.
            fleet.stop(settings.grace + STOP_MARGIN, at_once=open_jobs > 0 and supervisor.end is not End.FILES)
        if supervisor.work.engine:
            supervisor.work.engine.window.count_lost()
        return supervisor


def _opened_batch(queue: MiraQueue, batch_id: str, plan: Plan, say: Say) -> Batch:
    """Return the batch of these files: a new one, or the one of an earlier run, which is resumed.

    Running the command is newer than any command that an earlier run left, except for a cancel, which is final.
    """
    ledger, account = queue.ledger, queue.accounts.current.id
    now_s = int(time.time())
    files = BatchFiles(*(Path(os.path.abspath(each)) for each in astuple(plan.files)))
    place = f"{socket.gethostname()}:{files.output.parent}"
    batch = Batch(
        batch_id, BatchStatus.IN_PROGRESS, files.input.name, place, now_s, plan.options, files=files, account=account
    )
    try:
        found = ledger.batch(batch_id)
    except BatchNotFound:
        found = batch
    if found.account not in ("", account) and (count := open_jobs_of(ledger, found.account, plan)):
        recorded = ledger.pace_view(found.account).base
        say(adopt_text(count, "job", found.account, recorded, queue.accounts.current.base))
    command = ledger.command_of(batch_id)
    is_cancelled = not found.status.is_final and (found.status is BatchStatus.CANCELLING or isinstance(command, Cancel))
    if command is not None and not is_cancelled:
        ledger.ack_command(batch_id, command)
    if not plan.before.done and not is_cancelled:
        files.record.unlink(missing_ok=True)
    else:
        careful = found.careful or found.paused_by == "account"
        same = {name: getattr(batch, name) for name in ("input_name", "place", "options", "files", "account")}
        batch = replace(found, **same, paused="", paused_by="", careful=careful)
    if not is_cancelled:
        batch = batch.moved(BatchStatus.IN_PROGRESS, now_s)
    ledger.write_batch(batch)
    return batch


def _announce(batch_id: str, plan: Plan, target: str, say: Say) -> None:
    total, left = plan.stats.total, plan.left
    before = (
        f"; {plural(total - left, 'line')} {'is' if total - left == 1 else 'are'} already finished"
        if total > left
        else ""
    )
    go = "goes" if left == 1 else "go"
    say(f"{left:,} of {plural(total, 'request')} of {plan.files.input} {go} to {target}{before}")
    say(f"batch {batch_id}: status, pause, resume, and cancel work from another terminal")


def _report(batch: Batch, files: BatchFiles, where: str, path: Path, say: Say, settings: Settings) -> None:
    try:
        draw(batch, files, where, path, shows_content=settings.report_content == "shown")
        say(f"report: {path}")
    except InputError as error:
        # The answers are saved, whatever happens to the page.
        say(str(error))
