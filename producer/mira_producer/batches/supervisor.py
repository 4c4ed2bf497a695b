"""One batch, brought to its end: checked, sent, paused, resumed, finished, as owner and account will have it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from mira_producer.batches.commands import CANCEL, PAUSE, RESUME, RETRY, with_budget
from mira_producer.batches.counts import at_rest, counted, prices_of, written
from mira_producer.batches.engine_options import options_of
from mira_producer.batches.reasons import rest
from mira_producer.batches.spool import BatchFiles
from mira_producer.client import MiraQueue
from mira_producer.engine.engine import MAYBE_BILLED, Engine
from mira_producer.engine.options import End
from mira_producer.engine.plan import Plan
from mira_producer.engine.stats import Stats
from mira_producer.engine.wait_reason import NOTHING, Reason
from mira_producer.jsonl.errors import InputChanged, InputError, InvalidInput
from mira_producer.jsonl.remove_errors import has_status, remove_errors
from mira_producer.report.recorder_file import Recording
from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE, Batch, BatchOptions, BatchStatus
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.accounts import PaceView

CANCELLED = "not run: the batch was cancelled before"
CANCELLED_BILLED = f"the batch was cancelled before its answer came: {MAYBE_BILLED}"
LOOK_EVERY_S = 0.5
WRITE_EVERY_S = 1.0
# Before files that could not be used are tried again without being told to.
FILES_AGAIN_S = 5.0


class BatchKeeper:
    """Keeps one batch, in the thread that calls `keep`, until it has ended or the process is `ending`."""

    def __init__(
        self,
        queue: MiraQueue,
        batch: Batch,
        files: BatchFiles,
        pace: Callable[[], PaceView],
        ending: threading.Event,
        log: FilteringBoundLogger,
    ) -> None:
        self._queue = queue
        self._ledger = queue.ledger
        self._batch = batch
        self._files = files
        self._pace = pace
        self._ending = ending
        self._log = log.bind(batch_id=batch.id)
        self._interrupted = threading.Event()
        self._prices = prices_of(files)
        self._recording = Recording(files.record, rest(batch), self._log)
        self._before = Stats(0, 0, 0, self._prices)
        self._unanswered_before = batch.unanswered_calls
        self._engine: Engine | None = None
        self._billed: set[int] = set()
        self._look_s = self._write_s = 0.0
        #: A keeper before us may have been killed with open jobs that we have not found yet.
        self._may_be_taken_up = True

    def keep(self) -> None:
        """Returns when there is nothing more to do here. What dies in between is taken up by the next keeper."""
        while not self._ending.is_set() and (not self._batch.status.is_final or self._is_opened_again()):
            try:
                self._step()
            except QueueUnavailable as error:
                self._log.warning("server_unavailable", error=str(error))
                self._ending.wait(1.0)
            except (InputError, OSError) as error:
                # A full disk, a file that was meddled with: said where people look, and tried again on their word.
                self._pause("files", error.brief if isinstance(error, InputError) else str(error))
                self._ending.wait(FILES_AGAIN_S)
        if not self._batch.status.is_final:
            self._recording.save()
            self._write(at_rest(self._batch))

    def _is_opened_again(self) -> bool:
        """Its owner wished for a retry while it was coming to its end, and has not seen that it is there."""
        try:
            if self._batch.status is BatchStatus.FAILED or not self._ledger.wish_of(self._batch.id).startswith(RETRY):
                return False
            self._write(self._moved(BatchStatus.IN_PROGRESS))
        except QueueUnavailable:
            return False
        return True

    def _step(self) -> None:
        wish = self._ledger.wish_of(self._batch.id)
        word, *words = wish.split() or [""]
        if word == CANCEL or self._batch.status is BatchStatus.CANCELLING:
            if not self._cancel():
                return
        elif word == PAUSE:
            if not self._withdraw():
                return
            self._pause("owner", "paused by its owner")
        elif word == RESUME:
            self._go_on(with_budget(self._batch.options, words))
        elif word == RETRY:
            count = remove_errors(self._files.errors, has_status(words), self._forget)
            self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
            self._log.info("batch_retried", lines=count)
            # Whoever wants them tried after the deadline wants them without it.
            self._go_on(replace(self._batch.options, deadline_s=0) if self._is_late() else self._batch.options)
        elif self._batch.paused and not self._is_late():
            self._ending.wait(LOOK_EVERY_S)
            return
        if wish:
            self._ledger.wish_done(self._batch.id, wish)
        else:
            self._run()

    def _go_on(self, options: BatchOptions) -> None:
        # An account that refused may refuse again: one line finds out.
        careful = self._batch.careful or self._batch.paused_by == "account"
        self._write(replace(self._batch, options=options, paused="", paused_by="", careful=careful))

    def _run(self) -> None:
        self._interrupted.clear()
        engine = self._engine = self._new_engine()
        try:
            plan = self._planned(engine, goes_on=not self._is_late())
            if plan is None:
                return
            self._queue.crash_points.reach(CrashPoint.AFTER_CHECK)
            if self._batch.status is not BatchStatus.IN_PROGRESS:
                self._batch = self._moved(BatchStatus.IN_PROGRESS)
            self._write(self._counted(plan.stats))
            try:
                end = engine.run()
            except InputError:
                engine.withdraw()
                raise
            if end is not End.COMPLETE:
                if self._ledger.wish_of(self._batch.id) == CANCEL:
                    self._write(self._moved(BatchStatus.CANCELLING))
                settings = self._queue.settings
                engine.drain(settings.request_timeout if end is End.EXPIRED else settings.grace, self._ending)
            # What is left when the process ends is for the next keeper.
            self._may_be_taken_up = self._ending.is_set()
            if end is End.EXPIRED and not self._ending.is_set():
                engine.expire()
            self._write(self._counted(plan.stats))
            is_whole = plan.left == 0
        finally:
            engine.close()
        if end is End.COMPLETE or (is_whole and end is not End.EXPIRED):
            self._finish(self._whole())
        elif end is End.EXPIRED and is_whole:
            self._finish(BatchStatus.EXPIRED)
        elif end is End.ACCOUNT:
            self._pause("account", f"the account refused: {engine.why(end)}")
        elif end is End.BUDGET:
            self._pause("budget", engine.why(end))

    def _whole(self) -> BatchStatus:
        """What a batch has come to whose every line has ended, perhaps by a keeper that was killed just then."""
        if self._batch.status is BatchStatus.CANCELLING:
            return BatchStatus.CANCELLED
        is_expired = self._is_late() and EXPIRED_CODE in self._batch.codes
        return BatchStatus.EXPIRED if is_expired else BatchStatus.COMPLETED

    def _planned(self, engine: Engine, *, goes_on: bool = False) -> Plan | None:
        """None: the input is wrong, and the batch has failed. One that `goes_on` runs again what was refused."""
        try:
            plan = engine.plan()
        except InvalidInput as error:
            # Only what was never checked can be wrong; later, it is a disk or a hand in its files.
            if self._batch.status is not BatchStatus.VALIDATING:
                raise
            # The user does not know the path of our copy.
            problems = tuple(replace(each, path=self._batch.input_name) for each in error.problems)
            left_out = error.count - len(problems)
            self._write(self._moved(BatchStatus.FAILED, errors=problems, errors_left_out=left_out))
            return None
        if goes_on:
            plan.retry_errors()
            self._queue.crash_points.reach(CrashPoint.AFTER_TAKE_OUT)
        self._before = written(self._files, self._prices)
        self._unanswered_before = self._batch.unanswered_calls
        plan.stats.recorder = self._recording.recorder
        self._recording.recorder.waits("")
        return plan

    def _is_late(self) -> bool:
        deadline_s = self._batch.options.deadline_s
        return bool(deadline_s) and time.time() >= deadline_s

    def _new_engine(self) -> Engine:
        return Engine(
            self._queue,
            options_of(self._batch, self._files, self._prices),
            show=self._show,
            say=lambda text: self._log.info("batch_says", text=text),
            tend=self._look_for_wish,
            pace=self._pace,
            interrupted=self._interrupted,
            billed=self._billed,
        )

    def _finish(self, status: BatchStatus) -> None:
        self._write(self._moved(BatchStatus.FINALIZING))
        self._queue.crash_points.reach(CrashPoint.AFTER_FINALIZING)
        self._recording.recorder.waits("")
        self._recording.save(ended=True)
        self._write(at_rest(self._moved(status, paused="", paused_by="", careful=False)))

    def _cancel(self) -> bool:
        """False: the process ends first."""
        if self._batch.status is not BatchStatus.CANCELLING:
            self._write(self._moved(BatchStatus.CANCELLING))
        engine = self._engine = self._new_engine()
        try:
            plan = self._planned(engine)
            assert plan is not None
            if not self._take_up(engine):
                return False
            engine.give_up(CANCELLED_CODE, CANCELLED, CANCELLED_BILLED)
            self._write(self._counted(plan.stats))
        except (InvalidInput, InputChanged) as error:
            # Its input is wrong, and was not found to be so before: there is no line to name.
            self._log.warning("batch_says", text=str(error))
        finally:
            engine.close()
        self._finish(BatchStatus.CANCELLED)
        return True

    def _withdraw(self) -> bool:
        """Take back what a keeper before us has left open. False: the process ends first."""
        if not self._may_be_taken_up or self._batch.status is BatchStatus.VALIDATING:
            return True
        engine = self._engine = self._new_engine()
        try:
            plan = self._planned(engine)
            assert plan is not None
            is_done = self._take_up(engine)
            self._write(self._counted(plan.stats))
        finally:
            engine.close()
        return is_done

    def _take_up(self, engine: Engine) -> bool:
        """Find what is open, with an engine that has its plan. False: the process ends first.

        Calls in flight may end: a keeper's before us now, our own had their time when our engine was drained.
        """
        engine.take_up()
        engine.drain(self._queue.settings.grace if self._may_be_taken_up else timedelta(0), self._ending)
        self._may_be_taken_up = self._ending.is_set()
        return not self._ending.is_set()

    def _forget(self, job_ids: list[str]) -> None:
        """Jobs of lines that are to be tried again: a keeper that was killed may have left them, with their error."""
        keys = self._ledger.keys_of(job_ids)
        self._ledger.delete(zip(job_ids, keys, strict=True))
        self._queue.crash_points.reach(CrashPoint.AFTER_DELETE)

    def _pause(self, by: str, reason: str) -> None:
        self._recording.recorder.waits("paused")
        self._recording.save()
        self._log.info("batch_paused", reason=reason)
        self._write(replace(at_rest(self._batch), paused=reason, paused_by=by))

    def _look_for_wish(self) -> None:
        if self._ending.is_set():
            self._interrupted.set()
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_EVERY_S
        with suppress(QueueUnavailable):
            if self._ledger.wish_of(self._batch.id):
                self._interrupted.set()

    def _show(self, stats: Stats, reason: Reason) -> None:
        now_s = time.monotonic()
        if now_s >= self._write_s:
            self._write_s = now_s + WRITE_EVERY_S
            self._write(self._counted(stats, reason))
        self._recording.save_if_due()

    def _counted(self, stats: Stats, reason: Reason = NOTHING) -> Batch:
        batch = counted(self._batch, self._before, stats, self._unanswered_before, reason)
        held = self._engine.held_models if self._engine else ()
        return replace(batch, careful=batch.careful and not stats.succeeded, held_models=held)

    def _moved(self, status: BatchStatus, **changes: object) -> Batch:
        self._log.info("batch", status=status)
        return self._batch.moved(status, int(time.time()), **changes)

    def _write(self, batch: Batch) -> None:
        batch = replace(batch, updated_at=int(time.time()))
        self._ledger.write_batch(batch)
        self._batch = batch
