"""Batches from Python: `queue.batches.submit("requests.jsonl")`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mira_producer.batches.commands import (
    CANCEL,
    PAUSE,
    RESUME,
    RETRY,
    amount,
    budget_of,
    no_larger,
    resume_wish,
    with_budget,
)
from mira_producer.batches.counts import prices_of, used
from mira_producer.batches.launch import ensure_keeper
from mira_producer.batches.lock import KeeperLock, queue_name
from mira_producer.batches.report import draw
from mira_producer.batches.spool import BatchFiles, Spool
from mira_producer.cost.prices import DEFAULT_TABLE, load_prices
from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.reader import check_file
from mira_producer.jsonl.remove_errors import check_statuses, copy_lines, holds_status
from mira_producer.report.page import check_report
from mira_queue.contract.batch import Batch, BatchOptions, BatchStatus, new_batch_id
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import MiraQueueError, QueueUnavailable
from mira_queue.contract.settings import Settings
from mira_queue.ledger.ledger import Ledger
from mira_queue.runtime.crash_points import CrashPoints

# As OpenAI has it.
MOST_NOTES, LONGEST_NOTE_KEY, LONGEST_NOTE = 16, 64, 512
LOOK_EVERY_S = 0.5


class BatchRefused(MiraQueueError):
    """What is asked of a batch makes no sense where it is now."""


class Batches:
    """The batches of a queue. Any process may ask and wish; files are read where the batch was submitted."""

    def __init__(self, ledger: Ledger, settings: Settings, redis_url: str, crash_points: CrashPoints) -> None:
        self._ledger = ledger
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
        prices: Path | str | None = None,
    ) -> Batch:
        """Hand in a file; returns at once, while its lines are still being checked.

        The file is copied: it may change or go afterwards. `prices` is a price table; None: `prices.toml` of the
        working directory, where there is one. Raises InputError (a file that cannot be read, a wrong option),
        QueueUnavailable.
        """
        source = Path(path)
        check_file(source)
        _check(options or BatchOptions(), metadata or {})
        table = Path(prices) if prices is not None else DEFAULT_TABLE
        known = load_prices(None if prices is None else table)
        if options and options.max_cost and not known:
            raise InputError("max_cost needs a price table: --prices FILE, or prices.toml here")
        batch_id = new_batch_id()
        self.spool.receive(batch_id, source, queue_name(self._redis_url), table if known else None)
        self._crash_points.reach(CrashPoint.AFTER_COPY)
        now_s = int(time.time())
        batch = Batch(
            batch_id,
            BatchStatus.VALIDATING,
            source.name,
            self.spool.place(batch_id),
            now_s,
            options or BatchOptions(),
            dict(metadata or {}),
            {BatchStatus.VALIDATING.value: now_s},
        )
        try:
            self._ledger.write_batch(batch)
        except BaseException:
            # It may have been written, and the answer lost: a batch without files would stay for ever.
            with suppress(QueueUnavailable):
                self._ledger.forget_batch(batch_id)
            self.spool.remove(batch_id)
            raise
        self._crash_points.reach(CrashPoint.AFTER_SUBMIT)
        self._tend(batch)
        return batch

    def get(self, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        batch = self._ledger.batch(batch_id)
        self._tend(batch)
        return batch

    def all(self) -> list[Batch]:
        """The newest first."""
        batches = self._ledger.batches()
        for batch in batches:
            self._tend(batch)
        return batches

    def pause(self, batch_id: str) -> None:
        """Send no more of it; calls in flight end. Raises BatchNotFound, BatchRefused."""
        self._wish(batch_id, PAUSE)

    def resume(
        self,
        batch_id: str,
        *,
        max_requests: int | None = None,
        max_tokens: int | None = None,
        max_cost: str | None = None,
    ) -> None:
        """Go on. Where the account had refused: with one line, and the rest when it does not refuse that.

        Limits of the budget that are named are new ones; 0 and an empty text take a limit away. Raises as `pause`,
        InputError.
        """
        batch = self.get(batch_id)
        if not batch.status.is_final and not batch.paused:
            raise BatchRefused(f"batch {batch_id} is not paused: it goes on")
        wish = resume_wish(max_requests, max_tokens, max_cost)
        if batch.paused_by == "budget" and wish == RESUME:
            larger = "--max-cost, --max-tokens, --max-requests"
            raise BatchRefused(f"batch {batch_id}: {batch.paused}: resume it with a larger one: {larger}")
        if max_cost:
            amount(max_cost)
        if max_cost and not batch.currency:
            raise BatchRefused(f"batch {batch_id} was submitted without a price table: it has no cost to limit")
        self._refuse_no_larger(batch, wish)
        self._wish(batch_id, wish)

    def cancel(self, batch_id: str) -> None:
        """Send no more of it, ever; lines that were not run become errors, `batch_cancelled`. Raises as `pause`."""
        self._wish(batch_id, CANCEL)

    def retry(self, batch_id: str, statuses: Sequence[str] = ()) -> None:
        """Try failed lines again: all, or those with these statuses ("402", "5xx") or codes ("poison").

        Raises BatchNotFound, BatchRefused, InputError for what is neither.
        """
        check_statuses(statuses)
        batch = self.get(batch_id)
        if batch.status is BatchStatus.FAILED:
            raise BatchRefused(f"batch {batch_id}: its input is wrong: mend the file and submit it anew")
        files = self._files(batch)
        if not batch.failed:
            raise BatchRefused(f"batch {batch_id} has no failed line")
        if not holds_status(files.errors, statuses):
            raise BatchRefused(f"batch {batch_id}: no failed line has {' or '.join(statuses)}")
        self._ledger.wish(batch_id, " ".join([RETRY, *statuses]))
        self._crash_points.reach(CrashPoint.AFTER_RETRY_WISH)
        # Looked at anew: it may have come to its end just now, and its keeper have seen no wish.
        batch = self._ledger.batch(batch_id)
        if batch.status.is_final:
            batch = batch.moved(BatchStatus.IN_PROGRESS, int(time.time()))
            self._ledger.write_batch(batch)
        self._tend(batch)

    def results(self, batch_id: str, output: Path | str, errors: Path | str | None = None) -> tuple[int, int]:
        """Copy what it has by now, complete lines; returns how many answers and errors that are.

        Raises BatchNotFound, BatchRefused when its files are on another machine, InputError.
        """
        files = self._files(self.get(batch_id))
        if errors and Path(errors).resolve() == Path(output).resolve():
            raise InputError(f"{output}: is to get both answers and errors: name two files")
        # Errors first: what a file refuses is found out before answers go to standard output.
        failed = copy_lines(files.errors, Path(errors)) if errors else 0
        return copy_lines(files.output, Path(output)), failed

    def report(self, batch_id: str, path: Path | str) -> None:
        """Write a page about it that opens offline. Raises as `results`."""
        batch = self.get(batch_id)
        files = self._files(batch)
        check_report(Path(path), (files.output, files.errors, files.input))
        draw(batch, files, self._settings.api_base, Path(path))

    def wait(self, batch_id: str, timeout: float | None = None) -> Batch:
        """Until it has ended or is paused, at most `timeout` seconds (None: for ever); as it is then.

        Raises BatchNotFound.
        """
        end_s = None if timeout is None else time.monotonic() + timeout
        while True:
            batch, is_at_rest = self.look(batch_id)
            left_s = LOOK_EVERY_S if end_s is None else min(LOOK_EVERY_S, end_s - time.monotonic())
            if is_at_rest or left_s <= 0:
                return batch
            time.sleep(left_s)

    def look(self, batch_id: str) -> tuple[Batch, bool]:
        """The batch, and whether it is at rest: it has ended, or is paused and nobody wishes anything else.

        Raises BatchNotFound.
        """
        # In this order: a wish that is not there any more has left its mark on the batch.
        wish = self._ledger.wish_of(batch_id)
        batch = self.get(batch_id)
        return batch, batch.status.is_final or (bool(batch.paused) and not wish)

    def _refuse_no_larger(self, batch: Batch, wish: str) -> None:
        """A budget that is used up already: it would go on, and pause at once. Without its files nobody here knows."""
        limits = budget_of(with_budget(batch.options, wish.split()[1:]))
        if wish == RESUME or batch.status.is_final or limits is None or not self.spool.holds(batch.id):
            return
        files = self.spool.files(batch.id)
        if reached := no_larger(limits, used(files, prices_of(files)), batch.currency):
            raise BatchRefused(f"batch {batch.id}: {reached}")

    def _files(self, batch: Batch) -> BatchFiles:
        if not self.spool.holds(batch.id):
            raise BatchRefused(f"batch {batch.id}: its files are at {batch.place}: ask there")
        return self.spool.files(batch.id)

    def _wish(self, batch_id: str, wish: str) -> None:
        batch = self.get(batch_id)
        if batch.status.is_final:
            raise BatchRefused(f"batch {batch_id} has ended: {batch.status}")
        self._ledger.wish(batch_id, wish)

    def _tend(self, batch: Batch) -> None:
        """A batch that is open, whose files are here, and that nobody keeps: its keeper was killed, or the machine."""
        if batch.status.is_final or not self.spool.holds(batch.id):
            return
        lock = KeeperLock(self.spool, self._redis_url)
        if lock.take():
            try:
                ensure_keeper(self._settings, lock.fd)
            finally:
                lock.release()


def _check(options: BatchOptions, metadata: Mapping[str, str]) -> None:
    """What a batch is told, before anything is written. Raises InputError."""
    if options.on_account_error not in ("pause", "fail"):
        raise InputError(f"on_account_error: expected pause or fail, got {options.on_account_error[:40]!r}")
    for name, number in (("max_requests", options.max_requests), ("max_tokens", options.max_tokens)):
        if number < 0:
            raise InputError(f"{name}: expected 0 (no limit) or more, got {number}")
    if options.max_cost:
        amount(options.max_cost)
    if options.deadline_s and options.deadline_s <= time.time():
        raise InputError("deadline: has passed already: nothing was submitted")
    if len(metadata) > MOST_NOTES:
        raise InputError(f"metadata: {len(metadata)} notes, over the limit of {MOST_NOTES}")
    for key, value in metadata.items():
        if len(key) > LONGEST_NOTE_KEY or len(value) > LONGEST_NOTE:
            raise InputError(
                f"metadata, {key[:40]!r}: over the limit of {LONGEST_NOTE_KEY} characters for a key, "
                f"{LONGEST_NOTE} for a value"
            )
