"""Accounting: compare accepted jobs with outcomes, input lines with output lines, and calls seen with calls needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tests.chaos import workload
from tests.chaos.options import ChaosOptions
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.system import System

MAX_REMARKS = 10


@dataclass(slots=True)
class Remarks:
    """A few examples of each kind of error, for diagnosis."""

    lines: list[str] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def has_room(self, kind: str) -> bool:
        return self._counts[kind] < MAX_REMARKS

    def add(self, kind: str, text: str) -> None:
        if self.has_room(kind):
            self.lines.append(f"{kind}: {text}")
        self._counts[kind] += 1


@dataclass(slots=True)
class Outcomes:
    """Counts of single jobs."""

    accepted: int = 0
    accepted_twice: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    declared_unanswered: int = 0
    undeclared: int = 0


@dataclass(slots=True)
class Lines:
    """Counts of batch lines."""

    expected: int = 0
    missing: int = 0
    duplicated: int = 0
    unexpected: int = 0


@dataclass(slots=True)
class Calls:
    """Counts of calls that the simulated API received."""

    made: int = 0
    repeated: int = 0
    unexplained: int = 0
    answered_again: int = 0


def add_outcomes(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    monitor: ResultMonitor,
    seen_calls: Mapping[str, Mapping[str, int]],
    remarks: Remarks,
) -> Outcomes:
    """Compare accepted jobs with stored outcomes.

    `accepted` maps a job number to the IDs that its producer received. `seen_calls` are the simulator's counts by
    content.
    """
    found = Outcomes(accepted=len(accepted))
    numbers = {job_id: number for number, ids in accepted.items() for job_id in ids}
    for number, ids in accepted.items():
        if len(ids) > 1:
            found.accepted_twice += 1
            remarks.add("accepted twice", f"job {number}: {sorted(ids)}")
    for job_id, record in monitor.final_records(list(numbers)):
        job = workload.job(options.seed, numbers[job_id])
        if record is None:
            found.lost += 1
            known = system.describe(monitor.client, job_id) if remarks.has_room("lost") else ""
            remarks.add("lost", f"job {job.number}, {job_id}, calls: {seen_calls.get(job.content)}; {known}")
            continue
        ended = system.ended(record)
        if ended.succeeded != job.succeeds or (ended.succeeded and not _answers(ended.text, job)):
            found.wrong += 1
            remarks.add("wrong outcome", f"job {job.number}, {job_id}: {ended.text[:200]}")
        found.declared_unanswered += ended.unanswered_calls
        answered = seen_calls.get(job.content, {}).get("answered", 0)
        if answered - 1 > ended.unanswered_calls:
            found.undeclared += 1
            remarks.add(
                "undeclared duplicate answer",
                f"job {job.number}, {job_id}: answered {answered} times, declares {ended.unanswered_calls}",
            )
    found.duplicated = len(monitor.duplicated)
    for job_id in monitor.duplicated:
        remarks.add("duplicated outcome", f"{job_id} (job {numbers.get(job_id, 'of a batch')})")
    return found


def _answers(text: str, job: workload.ChaosJob) -> bool:
    # The simulator repeats the question.
    return text.endswith(job.content)


def add_lines(numbers: Iterable[int], files: Iterable[Path], remarks: Remarks) -> Lines:
    """Check that each input line of a batch is in exactly one of the files, once."""
    expected = {workload.custom_id(number) for number in numbers}
    counts: Counter[str] = Counter()
    found = Lines(expected=len(expected))
    for path in files:
        for line in path.read_bytes().splitlines() if path.exists() else []:
            custom_id = _custom_id(line)
            if custom_id in expected:
                counts[custom_id] += 1
            else:
                found.unexpected += 1
                remarks.add("unexpected line", f"{path.name}: {line[:100]!r}")
    for custom_id in sorted(expected - counts.keys()):
        found.missing += 1
        remarks.add("missing line", custom_id)
    for custom_id, count in counts.items():
        if count > 1:
            found.duplicated += 1
            remarks.add("duplicated line", f"{custom_id}: {count} times")
    return found


def _custom_id(line: bytes) -> str:
    try:
        return str(orjson.loads(line)["custom_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def add_calls(
    options: ChaosOptions, seen_calls: Mapping[str, Mapping[str, int]], hit: Mapping[str, int], remarks: Remarks
) -> Calls:
    """Count repeated calls: admitted calls beyond those that the job needs.

    Rate-limited calls (429) are not counted, because they cost nothing. `hit` maps a request to the number of faults
    during which it was in flight. Each of these faults explains one repetition, and nothing else does. The simulator
    does not count calls during an outage.
    """
    found = Calls()
    for number in range(options.jobs):
        job = workload.job(options.seed, number)
        seen = seen_calls.get(job.content)
        if seen is None:
            continue
        repeated = max(0, seen["calls"] - seen["refused"] - job.calls)
        found.made += seen["calls"]
        found.repeated += repeated
        found.answered_again += max(0, seen["answered"] - 1)
        if repeated > hit.get(job.content, 0):
            found.unexplained += repeated - hit.get(job.content, 0)
            remarks.add(
                "repeated without a reason", f"job {number}: {seen}, in flight at {hit.get(job.content, 0)} faults"
            )
    return found
