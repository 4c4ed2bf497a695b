"""The window of open jobs: lines go in as jobs, outcomes come out as lines of the files; nothing else is in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice

from mira_producer.client import MiraQueue
from mira_producer.cost.spending import Spending
from mira_producer.engine.account_errors import Account, is_of_account
from mira_producer.engine.feed import Feed
from mira_producer.engine.options import EngineOptions
from mira_producer.engine.pending_lines import unanswered_lines
from mira_producer.engine.plan import Plan
from mira_producer.engine.result_writer import Answers, Ended
from mira_producer.jsonl.request_line import InputLine, OpenLine
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.errors import JobCancelled, JobNotFound, QueueUnavailable
from mira_queue.contract.names import Lane
from mira_queue.contract.outcome import Failure, Outcome
from mira_queue.contract.states import JobState, JobStatus
from mira_queue.ledger.records import NewJob, new_job_ids

# Lines accepted in one round trip.
CHUNK = 100
# Lines whose jobs are looked for in one round trip.
LOOK_UP_AT_ONCE = 1000
# Requests may be 12 MiB each: the window is bounded in bytes as well as in jobs.
MAX_WINDOW_BYTES = 64 * 1024 * 1024


class Window:
    """Open jobs of one run."""

    def __init__(
        self,
        queue: MiraQueue,
        options: EngineOptions,
        plan: Plan,
        account: Account,
        spending: Spending | None,
        billed: set[int],
    ) -> None:
        self._queue = queue
        self._size = options.window
        self._index = plan.index
        self._stats = plan.stats
        self._answers = Answers(plan, queue.crash_points)
        self._input = options.input
        self._feed = Feed(self._unanswered(), account, plan.duplicates, spending)
        self._spending = spending
        self._shares_jobs = options.dedupe
        self._account = account
        self._billed = billed
        self.group = options.group
        self.open: dict[str, OpenLine] = {}
        self._pending: list[InputLine] = []
        self._bytes = 0
        # Until the account has let one line through, a second one would only be refused as well.
        self._unproved = options.careful
        self._looked_at: set[str] = set()
        #: Open jobs that wait for their time, when they were last looked at.
        self.resting = 0

    def has_room(self) -> bool:
        """Room for some: handed in one by one, as answers come, each line would have a message of its own."""
        return self._room() >= min(CHUNK, max(1, self._most // 4)) and self._bytes < MAX_WINDOW_BYTES

    @property
    def _most(self) -> int:
        return 1 if self._unproved else self._size

    def _room(self) -> int:
        return self._most - len(self.open)

    def fill(self) -> None:
        """Hand in lines while there is room, one chunk."""
        chunk = self._next_chunk()
        if not chunk:
            return
        ids = new_job_ids(len(chunk))
        jobs = [
            NewJob(line.request, job_id, self._key(line), self.group, Lane.BULK)
            for line, job_id in zip(chunk, ids, strict=True)
        ]
        handles = self._queue.accept(jobs)
        known: dict[str, InputLine] = {}
        for line, new, handle in zip(chunk, jobs, handles, strict=True):
            self._note_open(handle.id, line)
            if handle.id != new.id:
                known[handle.id] = line
        # Should the server fall silent in between, they are looked at again.
        self._pending = list(known.values())
        self._pending = self._take_over(known)

    def take_up(self) -> None:
        """Find jobs that an earlier run left open when it was killed, and write those that have ended.

        For whoever will hand in nothing more: only a look at every line that has no answer finds them.
        """
        lines = self._unanswered()
        while chunk := list(islice(lines, LOOK_UP_AT_ONCE)):
            holders = self._queue.ledger.holders([self._key(line) for line in chunk])
            known = {job_id: line for job_id, line in zip(holders, chunk, strict=True) if job_id}
            for job_id, line in known.items():
                self._note_open(job_id, line)
            # The account's refusal is what its line has met: nobody here finds out whether it still refuses.
            self._write_ended(self._queue.ledger.statuses(list(known)), _is_withdrawn)

    @property
    def is_out_of_budget(self) -> bool:
        """Nothing is left of it, or what is left is too little for the next line."""
        if self._spending is None:
            return False
        return self._spending.is_spent or (self._feed.is_blocked and not self.open and not self._pending)

    @property
    def is_fed(self) -> bool:
        """Every line that is to be handed in has been."""
        return self._feed.is_empty and not self._pending

    def _next_chunk(self) -> list[InputLine]:
        """The next lines to hand in; those that were not taken the last time come first."""
        self._pending = [line for line in self._pending if not self._index.is_answered(line.number)]
        if not self._pending:
            self._pending = self._feed.take(min(CHUNK, self._room()), MAX_WINDOW_BYTES - self._bytes)
        return self._pending

    def collect(self, timeout_s: float) -> int:
        """Write what has ended since; returns how many lines that were. Waits up to `timeout_s` for the first."""
        ended = [job_id for job_id in self._queue.ledger.finished(self.group, timeout_s) if job_id in self.open]
        return self._write(list(dict.fromkeys(ended)))

    def look_again(self) -> int:
        """Write what has ended without being announced (an announcement taken out by a run that was killed)."""
        # Only what was open at the last look: at full speed that is nothing, and looking costs more than writing.
        old = [job_id for job_id in self.open if job_id in self._looked_at]
        self._looked_at = set(self.open)
        # No messages are sent again here: a lost one is the workers' to find, and every look would add another.
        statuses = self._queue.ledger.statuses(old)
        self.resting = sum(status.state is JobState.WAITING for status in statuses)
        return self._write([status.id for status in statuses if status.state.is_final])

    def withdraw(self, wanted: Callable[[OpenLine], bool] = lambda line: True) -> None:
        """Drop what has not begun; what runs ends by itself. A later run hands these lines in again."""
        jobs = [entry for entry in self.open.items() if wanted(entry[1])]
        lost = self._queue.ledger.remove_unstarted([(job_id, line.key) for job_id, line in jobs])
        withdrawn = [entry for entry, calls in zip(jobs, lost, strict=True) if calls is not None]
        # Called before, by a worker that died: nobody else will tell.
        self._stats.unanswered_calls += sum(calls or 0 for calls in lost)
        self._billed.update(line.number for (_, line), calls in zip(jobs, lost, strict=True) if calls)
        for _, line in withdrawn:
            if self._spending is not None:
                self._spending.take_back(line)
        self._let_go(withdrawn)
        if withdrawn:
            self._queue.crash_points.reach(CrashPoint.AFTER_REMOVE_UNSTARTED)

    def abandon(self, code: str, message: str, billed: str) -> None:
        """Cancel whatever is open, for nobody waits for it any more: its line gets this error, or its late answer.

        `billed` is the message of those of which a call was made, and not answered.
        """
        ended = [job_id for job_id in list(self.open) if not self._cancel(job_id)]
        self._queue.crash_points.reach(CrashPoint.AFTER_CANCEL)
        self._write(ended)
        rest = list(self.open.items())
        lost = [status.unanswered_calls for status in self._queue.ledger.statuses([job_id for job_id, _ in rest])]
        self._answers.write(
            [
                (job_id, line, Failure(code, billed if unanswered else message, unanswered_calls=unanswered))
                for (job_id, line), unanswered in zip(rest, lost, strict=True)
            ]
        )
        self._drop(rest)

    def count_lost(self) -> None:
        """Calls of open jobs that nobody has waited for, as far as workers have told; the next run tells again."""
        with suppress(QueueUnavailable):
            self._stats.unanswered_calls += sum(
                status.unanswered_calls for status in self._queue.ledger.statuses(list(self.open))
            )

    def _cancel(self, job_id: str) -> bool:
        """False: it had ended before. A server that lost its data knows nothing of it: then nothing is open."""
        try:
            return self._queue.ledger.cancel(job_id)
        except JobNotFound:
            self._let_go([(job_id, self.open[job_id])])
            return True

    def close(self) -> None:
        """Nothing is open any more: the ledger keeps nothing of this run."""
        if not self.open:
            # Without its server it goes by itself, with the outcomes' life.
            with suppress(QueueUnavailable):
                self._queue.ledger.drop_group(self.group)

    def _unanswered(self) -> Iterator[InputLine]:
        return unanswered_lines(self._input, self._queue.check, self._index)

    def _key(self, line: InputLine) -> str:
        # With the request's digest: a line that was changed since an interrupted run is another job, no conflict.
        # Duplicates share a job: after a crash between their lines, the rest of them get its answer, too.
        of_line = f"{line.request.digest}:{'' if self._shares_jobs else line.custom_id}"
        # As short for long custom_ids: beyond 64 characters the server needs 250 bytes more for each open job.
        return f"run:{self.group}:{hashlib.sha256(of_line.encode()).hexdigest()[:32]}"

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
        return [known[job_id] for job_id in self._write_ended(statuses, _is_to_run_again)]

    def _write_ended(self, statuses: Iterable[JobStatus], is_stale: Callable[[Outcome], bool]) -> list[str]:
        """Write what an earlier run's jobs came to. Returns those whose end says nothing of their line."""
        ended = {status.id: status for status in statuses if status.state.is_final}
        outcomes = zip(ended, self._queue.outcomes(list(ended)), strict=True)
        stale = [job_id for job_id, outcome in outcomes if is_stale(outcome)]
        # That run was killed before it had told of them, and with the job nobody else can.
        self._stats.unanswered_calls += sum(ended[job_id].unanswered_calls for job_id in stale)
        self._billed.update(self.open[job_id].number for job_id in stale if ended[job_id].unanswered_calls)
        self._drop([(job_id, self.open[job_id]) for job_id in stale])
        self._write([job_id for job_id in ended if job_id not in stale])
        return stale

    def _write(self, job_ids: list[str]) -> int:
        if not job_ids:
            return 0
        ended: list[Ended] = []
        refused: list[Ended] = []
        outcomes = self._queue.outcomes(job_ids)
        for job_id, outcome in zip(job_ids, outcomes, strict=True):
            line = self.open[job_id]
            if self._spending is not None:
                self._spending.settle(line, outcome)
            if self._account.note(line.model, outcome, line.custom_id):
                refused.append((job_id, line, outcome))
            else:
                self._unproved = False
                ended.append((job_id, line, outcome))
        # First the files, then the ledger: dying in between, the next run finds the line in the file and skips it.
        self._answers.write(ended, refused)
        self._drop([(job_id, self.open[job_id]) for job_id in job_ids])
        return len(ended)

    def _note_open(self, job_id: str, line: InputLine) -> None:
        if job_id not in self.open:
            size, model = len(line.request.body), self._account.model_of(line)
            self.open[job_id] = OpenLine(line.number, line.custom_id, self._key(line), size, model, line.request.digest)
            self._bytes += size

    def _drop(self, jobs: list[tuple[str, OpenLine]]) -> None:
        self._queue.ledger.delete([(job_id, line.key) for job_id, line in jobs])
        self._let_go(jobs)

    def _let_go(self, jobs: list[tuple[str, OpenLine]]) -> None:
        for job_id, line in jobs:
            del self.open[job_id]
            self._bytes -= line.size


def _is_to_run_again(outcome: Outcome) -> bool:
    return is_of_account(outcome) or _is_withdrawn(outcome)


def _is_withdrawn(outcome: Outcome) -> bool:
    return isinstance(outcome, Failure) and outcome.code == JobCancelled.code
