"""Outcomes become lines of the output and the error file, each line once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mira_queue.contract.crash_points import CrashPoint, CrashPoints
from mira_queue.contract.outcome import Completion, Outcome
from producer.run.output import output_line
from producer.run.plan import Plan


@dataclass(frozen=True, slots=True)
class OpenLine:
    """A line whose job is open: enough to write its answer and to forget the job."""

    number: int
    custom_id: str
    key: str
    size: int
    model: str


class Answers:
    """Writes outcomes into the files of a plan; on return the disk has them."""

    def __init__(self, plan: Plan, crash_points: CrashPoints) -> None:
        self._plan = plan
        self._crash_points = crash_points

    def write(self, ended: Sequence[tuple[str, OpenLine, Outcome]]) -> None:
        """(job id, line, outcome) of each. A line that has been written is left out."""
        answers: list[bytes] = []
        failures: list[bytes] = []
        for job_id, line, outcome in ended:
            # Already marked: it was written, and the server fell silent before it could forget the job.
            if self._plan.index.mark_answered(line.number):
                (answers if isinstance(outcome, Completion) else failures).append(
                    output_line(job_id, line.custom_id, outcome)
                )
                self._plan.tally.add(outcome, line.model, custom_id=line.custom_id)
        self._crash_points.reach(CrashPoint.BEFORE_LINES)
        if answers:
            self._plan.output.append(answers)
        if failures:
            self._plan.errors.append(failures)
        self._crash_points.reach(CrashPoint.AFTER_LINES)
