"""Write outcomes as lines of the output and the error file, each line once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from mira_producer.engine.plan import Plan
from mira_producer.engine.stats import code_of
from mira_producer.jsonl.request_line import OpenLine
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import output_line
from mira_queue.contract.crash_point import CrashPoint
from mira_queue.contract.outcome import Completion, Outcome
from mira_queue.runtime.crash_points import CrashPoints

# Written and synced together: one answer may be that of a million lines.
MAX_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finished:
    """A line and the outcome of its job. `is_refused`: the account was rejected, and the line will run again."""

    job_id: str
    line: OpenLine
    outcome: Outcome
    is_refused: bool = False


@dataclass(frozen=True, slots=True)
class ResultWriter:
    """Writes outcomes into the files of a plan. When a method returns, the disk has the lines."""

    _plan: Plan
    _crash_points: CrashPoints

    def write(self, finished: Sequence[Finished]) -> None:
        """Write the lines that are not written yet."""
        answers, failures = _Buffer(self._plan.output), _Buffer(self._plan.errors)
        for each in finished:
            job_id, line, outcome = each.job_id, each.line, each.outcome
            buffer = answers if isinstance(outcome, Completion) else failures
            # A line is marked already if it was written and the server failed before it could delete the job.
            if self._plan.index.mark_answered(line.number):
                buffer.add(output_line(job_id, line.custom_id, outcome, runs_again=each.is_refused))
                if each.is_refused:
                    self._plan.retryable[code_of(outcome)] += 1
                self._plan.stats.add(outcome, line.model, custom_id=line.custom_id)
            # Duplicates of a refused line were not rejected themselves: they stay pending as all other lines do.
            for number, custom_id in () if each.is_refused else self._duplicates_of(line):
                if self._plan.index.mark_answered(number):
                    buffer.add(output_line(job_id, custom_id, outcome, copy_number=number))
                    self._plan.stats.add(outcome, line.model, custom_id=custom_id, billed=False)
        self._crash_points.reach(CrashPoint.BEFORE_LINES)
        answers.flush()
        failures.flush()
        self._crash_points.reach(CrashPoint.AFTER_LINES)

    def _duplicates_of(self, line: OpenLine) -> Iterator[tuple[int, str]]:
        return self._plan.duplicates.of(line.digest) if self._plan.duplicates and line.digest else iter(())


@dataclass(slots=True)
class _Buffer:
    """Lines that are written together."""

    _file: ResultFile
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._file.append(self._lines)
        self._lines, self._size = [], 0
