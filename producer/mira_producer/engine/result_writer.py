"""Write outcomes as lines of the output and the error file, each line once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

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

    def write(self, finished: Sequence[Finished]) -> int:
        """Write the lines that are not written yet, and return their size in bytes.

        If that fails, lines that are not in a file stay pending.
        """
        answers, failures = _Buffer(self._plan.output), _Buffer(self._plan.errors)
        try:
            for each in finished:
                self._add(each, answers if isinstance(each.outcome, Completion) else failures)
            self._crash_points.reach(CrashPoint.BEFORE_LINES)
            answers.flush()
            failures.flush()
        except BaseException:
            self._plan.index.mark_pending(answers.numbers + failures.numbers)
            raise
        self._crash_points.reach(CrashPoint.AFTER_LINES)
        return answers.written + failures.written

    def _add(self, each: Finished, buffer: _Buffer) -> None:
        line = each.line
        # A line is marked already if it was written and the server failed before it could delete the job.
        if self._plan.index.mark_answered(line.number):
            text = self._line(each, line.custom_id, runs_again=each.is_refused)
            buffer.add(line.number, text, partial(self._count, each, line.custom_id, line.number))
        # Duplicates of a refused line were not rejected themselves: they stay pending as all other lines do.
        for number, custom_id in () if each.is_refused else self._duplicates_of(line):
            if self._plan.index.mark_answered(number):
                text = self._line(each, custom_id, copy_number=number)
                buffer.add(number, text, partial(self._count, each, custom_id, number, billed=False))

    def _line(
        self, each: Finished, custom_id: str, *, runs_again: bool = False, copy_number: int | None = None
    ) -> bytes:
        return output_line(
            each.job_id,
            custom_id,
            each.outcome,
            digest=self._plan.index.digest_of(custom_id),
            runs_again=runs_again,
            copy_number=copy_number,
            simulated=self._plan.simulated,
        )

    def _count(self, each: Finished, custom_id: str, number: int, *, billed: bool = True) -> None:
        if each.is_refused:
            self._plan.retryable[code_of(each.outcome)] += 1
        self._plan.stats.add(each.outcome, each.line.model, custom_id=custom_id, billed=billed, number=number)

    def _duplicates_of(self, line: OpenLine) -> Iterator[tuple[int, str]]:
        return self._plan.duplicates.of(line.digest) if self._plan.duplicates and line.digest else iter(())


@dataclass(slots=True)
class _Buffer:
    """Lines that are written together, and counted when they are in the file. `numbers` are those of the input.

    `written` counts the bytes that are in the file.
    """

    _file: ResultFile
    numbers: list[int] = field(default_factory=list)
    written: int = 0
    _lines: list[bytes] = field(default_factory=list)
    _counts: list[Callable[[], None]] = field(default_factory=list)
    _size: int = 0

    def add(self, number: int, line: bytes, count: Callable[[], None]) -> None:
        self.numbers.append(number)
        self._lines.append(line)
        self._counts.append(count)
        self._size += len(line)
        if self._size >= MAX_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._lines:
            self._file.append(self._lines)
        counts = self._counts
        self.written += self._size
        self.numbers, self._lines, self._counts, self._size = [], [], [], 0
        for count in counts:
            count()
