"""Outcomes become lines of the output and the error file, each line once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mira_producer.engine.plan import Plan
from mira_producer.jsonl.request_line import OpenLine
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import output_line
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.runtime.crash_points import CrashPoints

# What a line has come to: its job's id, the line, the outcome.
Ended = tuple[str, OpenLine, Outcome]
# Written and synced in one go: one answer may stand for a million lines.
_MOST_BYTES = 8 * 1024 * 1024


class Answers:
    """Writes outcomes into the files of a plan; on return the disk has them."""

    def __init__(self, plan: Plan, crash_points: CrashPoints) -> None:
        self._plan = plan
        self._crash_points = crash_points

    def write(self, ended: Sequence[Ended], refused: Sequence[Ended] = ()) -> None:
        """A line that has been written is left out. Those that were `refused` run again when the run goes on."""
        answers, failures = _Buffer(self._plan.output), _Buffer(self._plan.errors)
        for job_id, line, outcome in ended:
            buffer = answers if isinstance(outcome, Completion) else failures
            # Already marked: it was written, and the server fell silent before it could forget the job.
            if self._plan.index.mark_answered(line.number):
                buffer.add(output_line(job_id, line.custom_id, outcome))
                self._plan.stats.add(outcome, line.model, custom_id=line.custom_id)
            for number, custom_id in self._duplicates_of(line):
                if self._plan.index.mark_answered(number):
                    buffer.add(output_line(job_id, custom_id, outcome, copy_number=number))
                    self._plan.stats.add(outcome, line.model, custom_id=custom_id, billed=False)
        for job_id, line, outcome in refused:
            # Its duplicates met nothing, and are left as all other lines are.
            if self._plan.index.mark_answered(line.number):
                failures.add(output_line(job_id, line.custom_id, outcome, runs_again=True))
                self._plan.retryable_errors.count += 1
                self._plan.stats.add(outcome, line.model, custom_id=line.custom_id)
        self._crash_points.reach(CrashPoint.BEFORE_LINES)
        answers.flush()
        failures.flush()
        self._crash_points.reach(CrashPoint.AFTER_LINES)

    def _duplicates_of(self, line: OpenLine) -> Iterator[tuple[int, str]]:
        return self._plan.duplicates.of(line.digest) if self._plan.duplicates and line.digest else iter(())


class _Buffer:
    """Lines on their way into a file."""

    def __init__(self, file: ResultFile) -> None:
        self._file = file
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._file.append(self._lines)
        self._lines, self._size = [], 0
