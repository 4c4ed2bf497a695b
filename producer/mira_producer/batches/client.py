"""Batches from Python: `queue.batches.submit("requests.jsonl")`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mira_producer.batches.launch import ensure_supervisor
from mira_producer.batches.lock import SupervisorLock, is_locked, queue_name
from mira_producer.batches.progress import at_rest
from mira_producer.batches.spool import Spool, lock_of_run
from mira_producer.cost.prices import DEFAULT_TABLE, Prices, parse_table, read_table
from mira_producer.engine.options import check_options, parse_amount, spending_of, with_new_limits
from mira_producer.engine.previous_results import prices_of, used
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.reader import check_file
from mira_producer.jsonl.remove_errors import check_statuses, complete_lines, copy_lines, holds_status
from mira_producer.report.page import check_report, draw
from mira_producer.webhooks.target import checked_webhook
from mira_queue.contract.account import Accounts
from mira_queue.contract.batch import (
    Batch,
    BatchFiles,
    BatchOptions,
    BatchOrigin,
    BatchStatus,
    OnChanged,
    new_batch_id,
)
from mira_queue.contract.commands import Cancel, Command, Pause, Resume, Retry
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import BatchNotFound, InvalidRequest, MiraQueueError, QueueUnavailable
from mira_queue.contract.metadata import checked_metadata
from mira_queue.contract.project_limits import NO_LIMITS, LimitReached, ProjectLimits
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.accounts_file import path_of
from mira_queue.runtime.crash_points import CrashPoints

POLL_S = 0.5
# A supervisor carries out most commands sooner. An earlier command that takes longer is reported.
COMMAND_PATIENCE_S, COMMAND_POLL_S = 5.0, 0.1
DATA_LOST = (
    "the queue's server has lost its data: resume sends the lines without an answer again; "
    "calls in flight at that time may have been billed"
)
PROCESS_ENDED = "its process has ended: run the same command again"


class BatchRefused(MiraQueueError):
    """The batch cannot do this in its present state."""


@dataclass(frozen=True, slots=True)
class StoredInput:
    """An input that the gateway has stored, and that never changes: it is linked, not copied.

    `name` is that of the file on the client's machine. `simulated` is True if a simulator answers the batch.
    `identity` is that of the request that creates the batch: repeating it returns the same batch. `limits` are those of
    its project, and `lines` is how many of its lines count until its supervisor has counted them.
    """

    name: str
    origin: BatchOrigin
    simulated: bool = False
    identity: str = ""
    limits: ProjectLimits = NO_LIMITS
    lines: int = 1

    def new_batch_id(self) -> str:
        return new_batch_id(simulated=self.simulated, identity=self.identity)


class Batches:
    """The batches of a queue. Any process may read them and give commands; their files are on one machine."""

    def __init__(
        self, ledger: Ledger, settings: Settings, accounts: Accounts, redis_url: str, crash_points: CrashPoints
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._settings = settings
        self._redis_url = redis_url
        self._crash_points = crash_points
        self.spool = Spool(settings.state_dir)

    def submit(
        self,
        path: Path | str,
        *,
        options: BatchOptions | None = None,
        metadata: Mapping[str, str] | None = None,
        prices: Path | str | bytes | None = None,
        account: str | None = None,
        stored: StoredInput | None = None,
    ) -> Batch:
        """Submit a file, and return while its lines are still being checked.

        The file is copied: it may change or be removed afterward. `prices` is a price table; None: `prices.toml` of
        the working directory, if it exists. `account` is the name of an account; the batch keeps it, whatever key is
        set later. `stored` describes a file of the gateway. Raise InputError (a file that cannot be read, a wrong
        option), UnknownAccount, QueueUnavailable, and LimitReached for a limit of the gateway.
        """
        owner = self._accounts.named(account)
        source = Path(path)
        options = options or BatchOptions()
        check_file(source)
        table = Path(prices) if isinstance(prices, (str, Path)) else None
        text = prices or None if isinstance(prices, bytes) else read_table(table)
        known = Prices() if text is None else parse_table(text, table or DEFAULT_TABLE)
        check_options(options, known)
        if options.deadline_s and options.deadline_s <= time.time():
            raise InputError("deadline: has passed already: nothing was submitted")
        notes = _checked_metadata(metadata)
        if stored is None:
            _check_webhook(options.webhook, self._settings)
        batch_id = stored.new_batch_id() if stored else new_batch_id()
        queue = queue_name(self._redis_url)
        accounts = path_of(self._settings)
        self.spool.receive(
            batch_id,
            source,
            queue,
            text,
            accounts=accounts if accounts.exists() else None,
            link=stored is not None,
        )
        self._crash_points.reach(CrashPoint.AFTER_COPY)
        now_s = int(time.time())
        batch = Batch(
            batch_id,
            BatchStatus.VALIDATING,
            stored.name if stored else source.name,
            self.spool.place(batch_id),
            now_s,
            options,
            notes,
            {BatchStatus.VALIDATING.value: now_s},
            account=owner.id,
            origin=stored.origin if stored else BatchOrigin(),
        )
        try:
            is_new = self._ledger.add_batch(batch, *((stored.limits, stored.lines) if stored else ()))
        except LimitReached:
            self.spool.remove(batch_id)
            raise
        except BaseException:
            # It may have been written, and the response lost: a batch without files would stay forever. The batch of a
            # request stays, because the request may be repeated, even while this one is running.
            if stored is None or not stored.identity:
                with suppress(QueueUnavailable):
                    self._ledger.forget_batch(batch_id, batch.origin.project)
                self.spool.remove(batch_id)
            raise
        if not is_new:
            return self.get(batch_id)
        self._crash_points.reach(CrashPoint.AFTER_SUBMIT)
        self.spool.remember(batch, is_first=True)
        return self._tended(batch)

    def get(self, batch_id: str) -> Batch:
        """Raise BatchNotFound."""
        try:
            batch = self._ledger.batch(batch_id)
        except BatchNotFound:
            restored = self._restored(batch_id)
            if restored is None:
                raise
            batch = restored
        return self._tended(batch)

    def all(self) -> list[Batch]:
        """Return all batches, the newest first."""
        found = self._ledger.batches()
        missing = self.spool.folders() - {batch.id for batch in found}
        found += filter(None, map(self._restored, missing))
        return [self._tended(batch) for batch in sorted(found, key=lambda batch: batch.created_at, reverse=True)]

    def after(self, place: tuple[int, str] | None, count: int) -> list[tuple[Batch, Command | None]]:
        """Return at most `count` batches after a place, the newest first, each with its command that is in progress.

        A place is the time of creation and the ID of a batch. Unlike `all`, it reads no other batches, and does not
        restore those that the server has lost.
        """
        return [(self._tended(batch), command) for batch, command in self._ledger.batches_after(place, count)]

    def pause(self, batch_id: str) -> None:
        """Send nothing more of it; calls in flight finish. Raise BatchNotFound, BatchRefused."""
        self._send(batch_id, Pause())

    def resume(
        self,
        batch_id: str,
        *,
        max_requests: int | None = None,
        max_tokens: int | None = None,
        max_cost: str | None = None,
        changed: OnChanged | None = None,
    ) -> None:
        """Send again. If the account was rejected: one line, and the others when that is not rejected.

        A limit of the budget that is given replaces the old one; 0 and "" remove it. `changed` is "rerun" or "keep",
        for lines whose request has changed since they were answered. Raise as `pause`, InputError.
        """
        batch = self.get(batch_id)
        pauses = isinstance(self._ledger.command_of(batch_id), Pause)
        if not (batch.status.is_final or batch.paused or pauses):
            raise BatchRefused(f"batch {batch_id} is not paused: it is running")
        command = Resume(max_requests, max_tokens, max_cost, changed)
        if batch.paused_by == "budget" and command == Resume():
            larger = "--max-cost, --max-tokens, --max-requests"
            raise BatchRefused(f"batch {batch_id}: {batch.paused}: resume it with a larger one: {larger}")
        if max_cost:
            parse_amount(max_cost)
        if max_cost and not (batch.currency or self._has_prices(batch)):
            raise BatchRefused(f"batch {batch_id} was submitted without a price table: it has no cost to limit")
        self._refuse_small_budget(batch, command)
        self._send(batch_id, command)

    def cancel(self, batch_id: str) -> None:
        """Send nothing more of it, ever; lines that were not run become errors, `batch_cancelled`. Raise as `pause`."""
        self._send(batch_id, Cancel())

    def retry(self, batch_id: str, statuses: Sequence[str] = ()) -> None:
        """Run failed lines again: all, or those with these statuses ("402", "5xx") or codes ("poison").

        Raise BatchNotFound, BatchRefused, and InputError for an unknown status.
        """
        check_statuses(statuses)
        batch = self.get(batch_id)
        if batch.status is BatchStatus.FAILED:
            raise BatchRefused(f"batch {batch_id}: its input is wrong: fix the file and submit it again")
        files = self._files(batch)
        if batch.is_run and (batch.status.is_final or not is_locked(lock_of_run(files))):
            raise BatchRefused(f"batch {batch_id}: move {files.errors} away, and run the same command again")
        if not batch.failed:
            raise BatchRefused(f"batch {batch_id} has no failed line")
        if batch.answered and not files.output.exists():
            # Without its answers, every line would be pending, and would be billed again.
            raise BatchRefused(f"batch {batch_id}: its answers were deleted: submit the failed lines as another batch")
        if not holds_status(files.errors, statuses):
            raise BatchRefused(f"batch {batch_id}: no failed line has {' or '.join(statuses)}")
        self._send_when_possible(batch_id, Retry(tuple(statuses)))
        self._crash_points.reach(CrashPoint.AFTER_RETRY_COMMAND)
        self._reopen(batch_id)

    def results(self, batch_id: str, output: Path | str, errors: Path | str | None = None) -> tuple[int, int]:
        """Copy the lines that are complete by now. Return how many answers and errors they are.

        Raise BatchNotFound, BatchRefused if the files are on another machine, InputError.
        """
        files = self._files(self.get(batch_id))
        if errors and Path(errors).resolve() == Path(output).resolve():
            raise InputError(f"{output}: cannot hold both answers and errors: name two files")
        # Errors first: a file that cannot be written fails before answers go to standard output.
        failed = copy_lines(files.errors, Path(errors)) if errors else 0
        return copy_lines(files.output, Path(output)), failed

    def report(self, batch_id: str, path: Path | str) -> None:
        """Write a page about it that opens offline. Raise as `results`."""
        batch = self.get(batch_id)
        files = self._files(batch)
        check_report(Path(path), (files.output, files.errors, files.input))
        base = self._accounts.with_id(batch.account).base or self._settings.api_base
        draw(batch, files, base, Path(path), shows_content=self._settings.report_content == "shown")

    def wait(self, batch_id: str, timeout: float | None = None) -> Batch:
        """Return the batch when it has ended or is paused, at the latest after `timeout` seconds (None: no limit).

        Raise BatchNotFound.
        """
        end_s = None if timeout is None else time.monotonic() + timeout
        while True:
            batch, is_at_rest = self.look(batch_id)
            left_s = POLL_S if end_s is None else min(POLL_S, end_s - time.monotonic())
            if is_at_rest or left_s <= 0:
                return batch
            time.sleep(left_s)

    def look(self, batch_id: str) -> tuple[Batch, bool]:
        """Return the batch, and whether it is at rest: it has ended, or is paused and has no command.

        Raise BatchNotFound.
        """
        # In this order: a command that is gone has left its mark on the batch.
        command = self._ledger.command_of(batch_id)
        batch = self.get(batch_id)
        return batch, batch.status.is_final or (bool(batch.paused) and (command is None or _has_ended(batch)))

    def _has_prices(self, batch: Batch) -> bool:
        """Return True if the batch has a price table. Its record has the currency only from its first progress on."""
        files = self.spool.files_of(batch)
        return files is not None and bool(prices_of(files))

    def _refuse_small_budget(self, batch: Batch, command: Resume) -> None:
        """Raise BatchRefused if the batch would pause again immediately, as far as its files are here."""
        files = self.spool.files_of(batch)
        if command == Resume() or batch.status.is_final or files is None:
            return
        prices = prices_of(files)
        spending = spending_of(with_new_limits(batch.options, command), used(files, prices), prices)
        if spending is not None and spending.is_spent:
            raise BatchRefused(f"batch {batch.id}: {spending.words()}: resume it with a larger one")

    def _files(self, batch: Batch) -> BatchFiles:
        files = self.spool.files_of(batch)
        if files is None:
            raise BatchRefused(f"batch {batch.id}: its files are at {batch.place}: run the command there")
        return files

    def _send(self, batch_id: str, command: Command) -> None:
        batch = self.get(batch_id)
        if batch.status.is_final:
            raise BatchRefused(f"batch {batch_id} has ended: {batch.status}")
        if _has_ended(batch):
            raise BatchRefused(f"batch {batch_id}: {PROCESS_ENDED}")
        self._send_when_possible(batch_id, command)

    def _reopen(self, batch_id: str) -> None:
        """Open a batch whose lines run again. It may have ended in the meantime, and its supervisor seen no command."""
        self._tended(self._ledger.reopen_for_retry(batch_id, int(time.time())))

    def _send_when_possible(self, batch_id: str, command: Command) -> None:
        """Send a command. If an earlier one has to be carried out first, wait for that."""
        end_s = time.monotonic() + COMMAND_PATIENCE_S
        while not self._ledger.send_command(batch_id, command):
            pending = self._ledger.command_of(batch_id)
            if isinstance(pending, Cancel):
                raise BatchRefused(f"batch {batch_id} is being cancelled")
            if isinstance(pending, Retry):
                # The process that sent it may have been killed before it opened the batch.
                self._reopen(batch_id)
            if time.monotonic() > end_s:
                raise BatchRefused(f"batch {batch_id}: an earlier command is in progress: send this one again later")
            time.sleep(COMMAND_POLL_S)

    def _restored(self, batch_id: str) -> Batch | None:
        """Write a batch whose files are here into a ledger that has lost it, and return it. None: it has expired."""
        batch = self.spool.remembered(batch_id, queue_name(self._redis_url))
        if batch is None:
            return None
        if not batch.status.is_final:
            files = self.spool.files(batch_id)
            answered, failed = (sum(1 for _ in complete_lines(path)) for path in (files.output, files.errors))
            batch = replace(at_rest(batch), answered=answered, failed=failed, paused=DATA_LOST, paused_by="lost")
        elif time.time() - batch.updated_at > self._settings.result_ttl.total_seconds():
            return None
        # Not lost, if it was submitted since the caller missed it in the ledger.
        return self._ledger.restore_batch(batch)

    def _tended(self, batch: Batch) -> Batch:
        """Return the batch, and start a supervisor if its files are here and none is running.

        The batch of a run whose process was killed is shown as paused: the user has to run the command again.
        """
        if batch.status.is_final:
            return batch
        if batch.is_run:
            files = self.spool.files_of(batch)
            if files is None or _has_ended(batch) or is_locked(lock_of_run(files)):
                return batch
            return replace(at_rest(batch), paused=PROCESS_ENDED, paused_by="process")
        if self.spool.holds(batch.id):
            lock = SupervisorLock(self.spool, self._redis_url)
            if lock.take():
                try:
                    ensure_supervisor(self._settings, lock.fd)
                finally:
                    lock.release()
        return batch


def _has_ended(batch: Batch) -> bool:
    """Return True if this is a run whose process has ended before the run."""
    return batch.is_run and batch.paused_by not in ("", "owner")


def _checked_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """Raise InputError."""
    try:
        return dict(checked_metadata(metadata))
    except InvalidRequest as error:
        raise InputError(str(error)) from None


def _check_webhook(webhook: str, settings: Settings) -> None:
    """Raise InputError."""
    try:
        checked_webhook(webhook, settings)
    except InvalidRequest as error:
        raise InputError(str(error)) from None
