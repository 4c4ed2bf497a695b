"""The window of open jobs: lines go in as jobs, outcomes come out as lines of the files; nothing else is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from mira_queue.contract.crash_points import CrashPoint
from mira_queue.contract.errors import Blame, JobCancelled, JobNotFound, QueueUnavailable, error_for_code
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Completion, Failure, Outcome
from mira_queue.contract.states import JobState
from mira_queue.ledger.records import NewJob, new_job_id
from producer.client import MiraQueue
from producer.run.index import LineIndex
from producer.run.lines import InputLine
from producer.run.output import LineFile, output_line
from producer.run.tally import Tally

# Lines accepted in one round trip.
CHUNK = 100
# Requests may be 12 MiB each: the window is bounded in bytes as well as in jobs.
MAX_WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class OpenLine:
    """A line whose job is open: enough to write its answer and to forget the job."""

    number: int
    custom_id: str
    key: str
    size: int


class Window:
    """Open jobs of one run. `group` names the run to the ledger: the same output file, the same group."""

    def __init__(
        self, queue: MiraQueue, size: int, output: LineFile, errors: LineFile, index: LineIndex, tally: Tally
    ) -> None:
        self._queue = queue
        self._size = size
        self._output = output
        self._errors = errors
        self._index = index
        self._tally = tally
        self.group = group_of(output.path)
        self.open: dict[str, OpenLine] = {}
        self._pending: list[InputLine] = []
        self._bytes = 0
        #: Set by the first error of the account: its lines stay unanswered, for the next run.
        self.account_error: Failure | None = None

    def has_room(self) -> bool:
        return len(self.open) < self._size and self._bytes < MAX_WINDOW_BYTES

    def fill(self, lines: Iterator[InputLine]) -> bool:
        """Accept lines while there is room, one chunk. False: no line is left."""
        chunk = self._next_chunk(lines)
        if not chunk:
            return False
        jobs = [NewJob(line.request, new_job_id(), self._key(line), self.group, Lane.BULK) for line in chunk]
        handles = self._queue.accept(jobs)
        known: dict[str, InputLine] = {}
        for line, new, handle in zip(chunk, jobs, handles, strict=True):
            if handle.id not in self.open:
                self.open[handle.id] = OpenLine(line.number, line.custom_id, new.key, len(line.request.body))
                self._bytes += len(line.request.body)
            if handle.id != new.id:
                known[handle.id] = line
        # Should the server fall silent in between, they are looked at again.
        self._pending = list(known.values())
        self._pending = self._take_over(known)
        return True

    def _next_chunk(self, lines: Iterator[InputLine]) -> list[InputLine]:
        """The next lines to hand in; those that were not taken the last time come first."""
        self._pending = [line for line in self._pending if not self._index.is_answered(line.number)]
        if not self._pending:
            room = min(CHUNK, self._size - len(self.open))
            size = self._bytes
            while len(self._pending) < room and size < MAX_WINDOW_BYTES and (line := next(lines, None)) is not None:
                self._pending.append(line)
                size += len(line.request.body)
        return self._pending

    def collect(self, timeout_s: float) -> int:
        """Write what has ended since; returns how many lines that were. Waits up to `timeout_s` for the first."""
        ended = [job_id for job_id in self._queue.ledger.finished(self.group, timeout_s) if job_id in self.open]
        return self._write(list(dict.fromkeys(ended)))

    def look_again(self) -> int:
        """Write what has ended without being announced (an announcement taken out by a run that was killed)."""
        if not self.open:
            return 0
        # No messages are sent again here: a lost one is the workers' to find, and every look would add another.
        statuses = self._queue.ledger.statuses(list(self.open))
        return self._write([status.id for status in statuses if status.state.is_final])

    def withdraw(self) -> None:
        """Cancel and forget what has not begun; what runs ends by itself. A later run hands these lines in again."""
        for job_id, line in list(self.open.items()):
            try:
                withdrawn = self._queue.ledger.cancel(job_id, only_idle=True)
            except JobNotFound:
                withdrawn = True
            if withdrawn:
                self._drop([(job_id, line)])

    def close(self) -> None:
        """Nothing is open any more: the ledger keeps nothing of this run."""
        if not self.open:
            # Without its server it goes by itself, with the outcomes' life.
            with suppress(QueueUnavailable):
                self._queue.ledger.drop_group(self.group)

    def _key(self, line: InputLine) -> str:
        # With the request's digest: a line that was changed since an interrupted run is another job, no conflict.
        return f"run:{self.group}:{line.request.digest}:{line.custom_id}"

    def _take_over(self, known: dict[str, InputLine]) -> list[InputLine]:
        """Jobs of an earlier run: those that have ended are written, those that were never sent are sent.

        Returns the lines to hand in anew: that run was stopped by the account, or had withdrawn them, and was killed
        before it could forget the job.
        """
        if not known:
            return []
        statuses = self._queue.ledger.statuses(list(known))
        # Their messages may have died with the run that was to send them; a second message harms nothing.
        self._queue.send([status.id for status in statuses if status.state is JobState.QUEUED], Lane.BULK)
        ended = [status.id for status in statuses if status.state.is_final]
        outcomes = zip(ended, self._queue.outcomes(ended), strict=True)
        stale = {job_id for job_id, outcome in outcomes if _is_of_account(outcome) or _is_withdrawn(outcome)}
        self._drop([(job_id, self.open[job_id]) for job_id in stale])
        self._write([job_id for job_id in ended if job_id not in stale])
        return [known[job_id] for job_id in stale]

    def _write(self, job_ids: list[str]) -> int:
        if not job_ids:
            return 0
        answers: list[bytes] = []
        failures: list[bytes] = []
        ended = []
        for job_id, outcome in zip(job_ids, self._queue.outcomes(job_ids), strict=True):
            line = self.open[job_id]
            ended.append((job_id, line))
            if _is_of_account(outcome):
                self.account_error = outcome
                continue
            # Already marked: it was written, and the server fell silent before it could forget the job.
            if self._index.mark_answered(line.number):
                (answers if isinstance(outcome, Completion) else failures).append(
                    output_line(job_id, line.custom_id, outcome)
                )
                self._tally.add(outcome)
        self._queue.crash_points.reach(CrashPoint.BEFORE_LINES)
        # First the files, then the ledger: dying in between, the next run finds the line in the file and skips it.
        if answers:
            self._output.append(answers)
        if failures:
            self._errors.append(failures)
        self._queue.crash_points.reach(CrashPoint.AFTER_LINES)
        self._drop(ended)
        return len(answers) + len(failures)

    def _drop(self, jobs: list[tuple[str, OpenLine]]) -> None:
        self._queue.ledger.forget([(job_id, line.key) for job_id, line in jobs])
        for job_id, line in jobs:
            del self.open[job_id]
            self._bytes -= line.size


def _is_of_account(outcome: Outcome) -> TypeGuard[Failure]:
    return isinstance(outcome, Failure) and error_for_code(outcome.code).blame is Blame.ACCOUNT


def _is_withdrawn(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.code == JobCancelled.code


def group_of(output: Path) -> str:
    """The name of the run that writes this file."""
    return hashlib.sha256(str(output.resolve()).encode()).hexdigest()[:16]
