"""The window of open jobs: lines are submitted as jobs, and outcomes are written as lines of the files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from itertools import islice

from mira_producer.client import Job, MiraQueue
from mira_producer.cost.spending import Spending
from mira_producer.engine.account_errors import AccountErrors, is_of_account
from mira_producer.engine.options import time_left
from mira_producer.engine.pending_lines import PendingLines, pending_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Finished, ResultWriter
from mira_producer.engine.written_jobs import WrittenJobs
from mira_producer.jsonl.errors import FileReplaced
from mira_producer.jsonl.request_line import InputLine, OpenLine
from mira_queue.contract.account import Account
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import JobCancelled, JobNotFound, QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure, Outcome
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.records import LostCalls, NewJob, new_job_id

# Lines accepted in one round trip.
CHUNK = 100
# Lines whose jobs are looked up in one round trip.
MAX_LOOKED_UP = 1000
# Requests may be 12 MiB each: the window is bounded in bytes as well as in jobs.
MAX_WINDOW_BYTES = 64 * 1024 * 1024


class Window:
    """Open jobs of one run, all of one account, at most `size`.

    A `careful` one submits one line, and the rest if that is accepted.
    """

    def __init__(
        self,
        queue: MiraQueue,
        plan: Plan,
        account: Account,
        account_errors: AccountErrors,
        spending: Spending | None,
        *,
        size: int,
        careful: bool = False,
    ) -> None:
        self._queue = queue
        self._account = account
        # Until the account has accepted one line, a second one would only be rejected as well.
        self._size, self._full_size = 1 if careful else size, size
        self._plan = plan
        self._index = plan.index
        self._stats = plan.stats
        self.writer = ResultWriter(plan, queue.crash_points)
        self._written = WrittenJobs(queue.ledger, plan, account.id, max_jobs=size)
        self._pending_lines = PendingLines(plan, account_errors, spending)
        self._spending = spending
        self._account_errors = account_errors
        self.group = plan.group
        self._pauses = plan.options.on_account_error == "pause"
        self.open: dict[str, OpenLine] = {}
        self._pending: list[InputLine] = []
        self._bytes = 0
        self._checked: set[str] = set()
        self._ahead: set[str] = set()
        #: Open jobs that waited for a retry when they were last checked.
        self.resting = 0

    def has_room(self) -> bool:
        """Return True if several lines fit. Submitted one by one, each line would need a message of its own."""
        return self._room >= min(CHUNK, max(1, self._size // 4)) and self._bytes < MAX_WINDOW_BYTES

    @property
    def _room(self) -> int:
        return self._size - len(self.open)

    def fill(self) -> None:
        """Submit one chunk of lines. Those that were not accepted the last time come first."""
        self._pending = [line for line in self._pending if not self._index.is_answered(line.number)]
        if not self._pending:
            self._pending = self._pending_lines.take(min(CHUNK, self._room), MAX_WINDOW_BYTES - self._bytes)
        chunk = self._pending
        if not chunk:
            return
        jobs = [
            NewJob(
                line.request,
                new_job_id(),
                key_of(self._plan, line),
                self.group,
                Lane.BULK,
                time_left(self._plan.options),
                self._pauses,
            )
            for line in chunk
        ]
        handles = self._accept(jobs)
        known: dict[str, InputLine] = {}
        for line, new, handle in zip(chunk, jobs, handles, strict=True):
            self._add_open(handle.id, line)
            if handle.id != new.id:
                known[handle.id] = line
        # If the server fails in between, they are checked again.
        self._pending = list(known.values())
        self._pending = self._take_over(known)

    def _accept(self, jobs: list[NewJob]) -> list[Job]:
        try:
            return self._queue.accept(jobs, self._account)
        except QueueUnavailable:
            # If the server's memory is full, there may never be newer jobs that follow these.
            self._written.delete_all()
            raise

    def send_ahead(self, count: int) -> None:
        """Let `count` open lines go ahead of the other lines in the queue, with the single jobs.

        They get a second message, of which a worker ignores the one that it receives last.
        """
        self._ahead &= self.open.keys()
        missing = count - len(self._ahead)
        if missing > 0:
            # The last ones: the first messages of the others may have been received already.
            ahead = list(islice((job_id for job_id in reversed(self.open) if job_id not in self._ahead), missing))
            self._queue.send(self._account.id, ahead, Lane.LOW)
            self._ahead.update(ahead)

    def find_open(self) -> None:
        """Find jobs that a killed run left open, and write those that have finished.

        An engine that will submit nothing more needs this: only a lookup of every pending line finds them.
        """
        lines = pending_lines(self._plan.files.input, self._plan.check, self._index)
        while chunk := list(islice(lines, MAX_LOOKED_UP)):
            holders = self._queue.ledger.holders(self._account.id, [key_of(self._plan, line) for line in chunk])
            known = {job_id: line for job_id, line in zip(holders, chunk, strict=True) if job_id}
            for job_id, line in known.items():
                self._add_open(job_id, line)
            # An account error stays the error of its line: no call will check whether the account still rejects.
            self._write_finished(self._queue.ledger.statuses(list(known)), _is_withdrawn)

    @property
    def is_out_of_budget(self) -> bool:
        """Return True if nothing is left of the budget, or too little for the next line."""
        if self._spending is None:
            return False
        return self._spending.is_spent or (self._pending_lines.is_blocked and not self.open and not self._pending)

    @property
    def is_submitted(self) -> bool:
        """Return True if every line that may be submitted has been."""
        return self._pending_lines.is_empty and not self._pending

    def collect(self, timeout_s: float) -> int:
        """Write the jobs that finished; wait up to `timeout_s` for the first. Return how many lines that were."""
        finished = [job_id for job_id in self._queue.ledger.finished(self.group, timeout_s) if job_id in self.open]
        return self._write(list(dict.fromkeys(finished)))

    def check_open(self) -> int:
        """Write jobs whose announcement was lost with a killed run. Return how many lines that were."""
        # Only jobs that were open at the last check: at full speed there are none, and a check costs more than a write.
        old = [job_id for job_id in self.open if job_id in self._checked]
        self._checked = set(self.open)
        # No messages are sent again here: workers find lost ones, and every check would add another.
        statuses = self._queue.ledger.statuses(old)
        self.resting = sum(status.state is JobState.WAITING for status in statuses)
        return self._write([status.id for status in statuses if status.state.is_final])

    def withdraw(self, wanted: Callable[[OpenLine], bool] = lambda line: True) -> None:
        """Take back jobs that have not started. Their lines stay pending; jobs that run end on their own."""
        jobs = [entry for entry in self.open.items() if wanted(entry[1])]
        lost = self._queue.ledger.remove_unstarted(self._account.id, [(job_id, line.key) for job_id, line in jobs])
        withdrawn = [entry for entry, each in zip(jobs, lost, strict=True) if each is not None]
        # With the job, the ledger forgets them.
        self._count_lost((line, each) for (_, line), each in zip(jobs, lost, strict=True) if each is not None)
        for _, line in withdrawn:
            if self._spending is not None:
                self._spending.take_back(line)
        self._let_go(withdrawn)
        if withdrawn:
            self._queue.crash_points.reach(CrashPoint.AFTER_REMOVE_UNSTARTED)

    def abandon(self, code: str, why: str) -> None:
        """Cancel all open jobs. Each line gets this error, or the answer that arrived in the meantime."""
        finished = [job_id for job_id in list(self.open) if not self._cancel(job_id)]
        self._queue.crash_points.reach(CrashPoint.AFTER_CANCEL)
        self._write(finished)
        rest = list(self.open.items())
        statuses = self._queue.ledger.statuses([job_id for job_id, _ in rest])
        failures = [
            replace(not_answered(code, why, status.unanswered_calls), lost_usage=status.lost_usage)
            for status in statuses
        ]
        self.writer.write([Finished(*entry, failure) for entry, failure in zip(rest, failures, strict=True)])
        self._drop(rest)

    def count_lost(self) -> None:
        """Count lost calls of jobs that are still open, as far as workers reported them, in the plan's counts alone.

        The next run finds their jobs, and counts them in the batch.
        """
        with suppress(QueueUnavailable):
            statuses = self._queue.ledger.statuses(list(self.open))
            self._stats.unanswered_calls += sum(status.unanswered_calls for status in statuses)

    def _cancel(self, job_id: str) -> bool:
        """Return False if the job had finished. If the server has lost its data, there is no job."""
        try:
            return self._queue.ledger.cancel(job_id)
        except JobNotFound:
            self._let_go([(job_id, self.open[job_id])])
            return True

    def close(self) -> None:
        """Delete what the ledger keeps of this run, except for open jobs, and what they need.

        If another program has changed a file, the jobs of the lines that were written last stay for the next run.
        """
        # If the server is down, it expires with the outcomes.
        with suppress(QueueUnavailable, FileReplaced):
            self._written.delete_all()
        with suppress(QueueUnavailable):
            if not self.open:
                self._queue.ledger.drop_group(self.group)

    def _take_over(self, known: dict[str, InputLine]) -> list[InputLine]:
        """Write jobs of an earlier run that have finished, and send those whose message may be lost.

        Return the lines to submit again: that run stopped at an account error, or had withdrawn them, and was killed
        before it could delete the job.
        """
        if not known:
            return []
        self._queue.ledger.set_deadline(list(known), time_left(self._plan.options))
        statuses = self._queue.ledger.statuses(list(known))
        # Their messages may be lost with the run that was to send them; a second message is harmless.
        queued = [status.id for status in statuses if status.state is JobState.QUEUED]
        self._queue.send(self._account.id, queued, Lane.BULK)
        return [known[job_id] for job_id in self._write_finished(statuses, _is_to_run_again)]

    def _write_finished(self, statuses: Iterable[JobStatus], is_stale: Callable[[Outcome], bool]) -> list[str]:
        """Write finished jobs of an earlier run. Return those whose outcome is not one of their line."""
        ended = {status.id: status for status in statuses if status.state.is_final}
        outcomes = zip(ended, self._queue.outcomes(list(ended)), strict=True)
        stale = [job_id for job_id, outcome in outcomes if is_stale(outcome)]
        # That run was killed before it counted them, and with the job they would be lost.
        self._count_lost(
            (self.open[job_id], LostCalls(ended[job_id].unanswered_calls, ended[job_id].lost_usage)) for job_id in stale
        )
        self._drop([(job_id, self.open[job_id]) for job_id in stale])
        self._write([job_id for job_id in ended if job_id not in stale])
        return stale

    def _write(self, job_ids: list[str]) -> int:
        if not job_ids:
            return 0
        finished: list[Finished] = []
        outcomes = self._queue.outcomes(job_ids)
        for job_id, outcome in zip(job_ids, outcomes, strict=True):
            line = self.open[job_id]
            if self._spending is not None:
                self._spending.settle(line, outcome)
            is_refused = self._account_errors.add(line.model, outcome, line.custom_id)
            if not is_refused:
                self._size = self._full_size
            finished.append(Finished(job_id, line, outcome, is_refused))
        # First the files, then the ledger: after a crash in between, the next run finds the line in the file.
        size = self.writer.write(finished)
        jobs = [(job_id, self.open[job_id]) for job_id in job_ids]
        self._written.add([(job_id, line.key) for job_id, line in jobs], size)
        self._let_go(jobs)
        self._written.delete_old()
        return len(finished)

    def _count_lost(self, lost: Iterable[tuple[OpenLine, LostCalls]]) -> None:
        """Count what jobs that are deleted have cost. Their lines stay pending."""
        for line, each in lost:
            self._stats.add_lost(each, line.model)
            self._plan.billed[line.number] += each.calls
            if self._spending is not None:
                self._spending.add_lost(line, each)

    def _add_open(self, job_id: str, line: InputLine) -> None:
        if job_id not in self.open:
            size, model = len(line.request.body), self._account_errors.model_of(line)
            self.open[job_id] = OpenLine(
                line.number, line.custom_id, key_of(self._plan, line), size, model, line.request.digest
            )
            self._bytes += size

    def _drop(self, jobs: list[tuple[str, OpenLine]]) -> None:
        self._queue.ledger.delete(self._account.id, [(job_id, line.key) for job_id, line in jobs])
        self._let_go(jobs)

    def _let_go(self, jobs: list[tuple[str, OpenLine]]) -> None:
        for job_id, line in jobs:
            del self.open[job_id]
            self._bytes -= line.size


def key_of(plan: Plan, line: InputLine) -> str:
    """Return the idempotency key of a line's job."""
    # With the request's digest: a line that was changed after an interrupted run is another job, not a conflict.
    # Duplicates share a job, so that a killed run that wrote one of them leaves the answer for the others.
    of_line = f"{line.request.digest}:{'' if plan.options.dedupe else line.custom_id}"
    # Short for long custom_ids, too: beyond 64 characters the server needs 250 bytes more per open job.
    return f"run:{plan.group}:{hashlib.sha256(of_line.encode()).hexdigest()[:32]}"


def not_answered(code: str, why: str, calls: int) -> Failure:
    """Return the error of a line that gets no answer. `calls` were made and have no answer."""
    if not calls:
        return Failure(code, f"not run: {why} before")
    billed = f"{why} before its answer arrived: a call was in flight, and may have been billed"
    return Failure(code, billed, attempts=calls, unanswered_calls=calls)


def _is_to_run_again(outcome: Outcome) -> bool:
    return is_of_account(outcome) or _is_withdrawn(outcome)


def _is_withdrawn(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.code == JobCancelled.code
