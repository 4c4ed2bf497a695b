"""One batch, brought to its end: checked, sent, paused, resumed, finished, as owner and account will have it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from structlog.typing import FilteringBoundLogger

from mira_queue.contract.batch import Batch, BatchOptions, BatchStatus, LineError
from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.pace import PaceView
from producer.batches.client import CANCEL, PAUSE, RESUME, RETRY
from producer.batches.results import has_status, take_out, usage_of
from producer.batches.spool import BatchFiles
from producer.client import MiraQueue
from producer.run.budget import BudgetLimits
from producer.run.engine import Engine
from producer.run.options import End, EngineOptions
from producer.run.paths import group_of
from producer.run.source import InputError
from producer.run.tally import Tally
from producer.run.waiting import Reason

# Open jobs of a batch: enough that no fleet of a usual size waits for lines; a few megabytes of the server's memory.
WINDOW = 4000
LOOK_EVERY_S = 0.5
WRITE_EVERY_S = 1.0
BY_OWNER = "paused by its owner"
# Words of an InputError about a line.
_LINE = re.compile(r"line (\d+), (.+?): (.*)", re.DOTALL)


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
        self._careful = False
        self._tokens_before = (batch.prompt_tokens, batch.completion_tokens)
        self._unanswered_before = batch.unanswered_calls
        self._look_s = self._write_s = 0.0
        self._wish = ""

    def keep(self) -> None:
        """Returns when there is nothing more to do here. What dies in between is taken up by the next keeper."""
        while not self._ending.is_set() and not self._batch.status.is_final:
            try:
                self._step()
            except QueueUnavailable as error:
                self._log.warning("server_unavailable", error=str(error))
                self._ending.wait(1.0)
            except OSError as error:
                # Its directory is gone, or its disk is full: said where people look, and tried again on their word.
                self._pause(f"its files cannot be used: {error.strerror or error}")

    def _step(self) -> None:
        self._wish = self._ledger.wish_of(self._batch.id)
        word, *words = self._wish.split() or [""]
        if word == CANCEL or self._batch.status is BatchStatus.CANCELLING:
            self._cancel()
        elif word == PAUSE:
            self._pause(BY_OWNER)
        elif word == RESUME:
            # An account that refused may refuse again: one line finds out.
            self._careful = self._batch.paused not in ("", BY_OWNER)
            self._write(replace(self._batch, paused=""))
        elif word == RETRY:
            count = take_out(self._files.errors, has_status(words))
            self._log.info("batch_retried", lines=count)
            self._write(replace(self._batch, paused=""))
        elif self._batch.paused and not self._is_late():
            self._ending.wait(LOOK_EVERY_S)
            return
        if self._wish:
            self._ledger.wish_done(self._batch.id, self._wish)
            self._wish = ""
            return
        self._run()

    def _run(self) -> None:
        self._interrupted.clear()
        self._tokens_before = (self._batch.prompt_tokens, self._batch.completion_tokens)
        self._unanswered_before = self._batch.unanswered_calls
        engine = self._engine()
        try:
            try:
                plan = engine.plan()
            except InputError as error:
                self._write(self._moved(BatchStatus.FAILED, errors=line_errors(str(error), str(self._files.input))))
                return
            if self._batch.status is not BatchStatus.IN_PROGRESS:
                self._batch = self._moved(BatchStatus.IN_PROGRESS)
            self._write(self._counted(plan.tally, ""))
            end = engine.run()
            if end is not End.COMPLETE:
                settings = self._queue.settings
                engine.drain(settings.request_timeout if end is End.EXPIRED else settings.grace, self._ending)
            if end is End.EXPIRED:
                engine.expire()
            self._write(self._counted(plan.tally, ""))
            is_whole = plan.left == 0
        finally:
            engine.close()
        if end is End.COMPLETE or (is_whole and end is not End.EXPIRED):
            self._finish(BatchStatus.COMPLETED)
        elif end is End.EXPIRED:
            self._finish(BatchStatus.EXPIRED)
        elif end is End.ACCOUNT:
            self._pause(f"the account refused: {engine.why(end)}")
        elif end is End.BUDGET:
            self._pause(engine.why(end))

    def _is_late(self) -> bool:
        deadline_s = self._batch.options.deadline_s
        return bool(deadline_s) and time.time() >= deadline_s

    def _engine(self) -> Engine:
        options = EngineOptions(
            input=self._files.input,
            output=self._files.output,
            errors=self._files.errors,
            group=group_of(self._files.output),
            window=WINDOW,
            on_account_error="fail" if self._batch.options.on_account_error == "fail" else "pause",
            deadline=datetime.fromtimestamp(self._batch.options.deadline_s, UTC)
            if self._batch.options.deadline_s
            else None,
            dedupe=self._batch.options.dedupe,
            ordered=self._batch.options.ordered,
            budget=_budget(self._batch.options),
            careful=self._careful,
        )
        self._careful = False
        return Engine(
            self._queue,
            options,
            show=self._show,
            say=lambda text: self._log.info("batch_says", text=text),
            tend=self._look_for_wish,
            pace=self._pace,
            interrupted=self._interrupted,
        )

    def _finish(self, status: BatchStatus) -> None:
        """Usage is counted from the answers themselves: what a keeper that was killed had counted is not lost."""
        self._write(self._moved(BatchStatus.FINALIZING))
        prompt, completion = usage_of(self._files.output)
        self._write(self._moved(status, prompt_tokens=prompt, completion_tokens=completion, note="", paused=""))

    def _cancel(self) -> None:
        if self._batch.status is not BatchStatus.CANCELLING:
            self._write(self._moved(BatchStatus.CANCELLING))
        self._give_up("batch_cancelled", "not run: the batch was cancelled before")
        self._finish(BatchStatus.CANCELLED)

    def _give_up(self, code: str, message: str) -> None:
        engine = self._engine()
        try:
            plan = engine.plan()
            engine.give_up(code, message)
            self._write(self._counted(plan.tally, ""))
        except InputError as error:
            self._log.warning("batch_says", text=str(error))
        finally:
            engine.close()

    def _pause(self, reason: str) -> None:
        self._write(replace(self._batch, paused=reason, note=""))

    def _look_for_wish(self) -> None:
        if self._ending.is_set():
            self._interrupted.set()
        now_s = time.monotonic()
        if now_s < self._look_s:
            return
        self._look_s = now_s + LOOK_EVERY_S
        try:
            if self._ledger.wish_of(self._batch.id):
                self._interrupted.set()
        except QueueUnavailable:
            return

    def _show(self, tally: Tally, reason: Reason) -> None:
        now_s = time.monotonic()
        if now_s >= self._write_s:
            self._write_s = now_s + WRITE_EVERY_S
            self._write(self._counted(tally, str(reason)))

    def _counted(self, tally: Tally, note: str) -> Batch:
        return replace(
            self._batch,
            total=tally.total,
            answered=tally.before + tally.succeeded,
            failed=tally.failed_before + tally.failed,
            prompt_tokens=self._tokens_before[0] + tally.prompt_tokens,
            completion_tokens=self._tokens_before[1] + tally.completion_tokens,
            unanswered_calls=self._unanswered_before + tally.unanswered_calls,
            note=note,
        )

    def _moved(self, status: BatchStatus, **changes: object) -> Batch:
        self._log.info("batch", status=status)
        return self._batch.moved(status, int(time.time()), **changes)

    def _write(self, batch: Batch) -> None:
        self._ledger.write_batch(batch)
        self._batch = batch


def line_errors(text: str, path: str) -> tuple[LineError, ...]:
    """The complaints of an InputError, as a batch lists them."""
    found = []
    for complaint in text.splitlines():
        match = _LINE.fullmatch(complaint.removeprefix(f"{path}, "))
        if match:
            found.append(LineError(match[3], int(match[1]), match[2]))
        else:
            found.append(LineError(complaint.removeprefix(f"{path}: ")))
    return tuple(found)


def _budget(options: BatchOptions) -> BudgetLimits | None:
    if not options.max_requests and not options.max_tokens:
        return None
    return BudgetLimits(options.max_requests or None, options.max_tokens or None)
