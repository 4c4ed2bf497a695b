"""Accounting: compare accepted jobs with outcomes, input lines with output lines, and calls seen with calls needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from mira_queue.contract.settings import Settings
from tests.chaos import workload
from tests.chaos.options import ChaosOptions
from tests.chaos.result_monitor import ResultMonitor
from tests.chaos.schedule import Fault
from tests.chaos.system import Stored, System

MAX_REMARKS = 10
MAX_CRASHES = int(Settings.model_fields["max_crashes"].default)
# Faults that the queue cannot tell from a crash of the worker.
CRASHES = (Fault.KILL_WORKER, Fault.STOP_WORKER)
Hits = Mapping[str, Mapping[Fault, int]]


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
    dead_letters: int = 0
    declared_unanswered: int = 0
    undeclared: int = 0


@dataclass(slots=True)
class Lines:
    """Counts of batch lines."""

    expected: int = 0
    missing: int = 0
    duplicated: int = 0
    unexpected: int = 0
    wrong: int = 0
    dead_letters: int = 0


@dataclass(slots=True)
class Calls:
    """Counts of calls that the simulated API received."""

    made: int = 0
    repeated: int = 0
    unexplained: int = 0
    answered_again: int = 0
    #: Repeated calls of requests that were in flight only at faults of this kind.
    only_at: Counter[Fault] = field(default_factory=Counter)


def add_outcomes(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    monitor: ResultMonitor,
    seen_calls: Mapping[str, Mapping[str, int]],
    hits: Hits,
    remarks: Remarks,
) -> Outcomes:
    """Compare accepted jobs with stored outcomes.

    `accepted` maps a job number to the IDs that its producer received. `seen_calls` are the simulators' counts by
    content. `hits` are the faults during which it was in flight.
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
        found.dead_letters += ended.is_dead_letter
        if not is_right(ended, job, hits):
            found.wrong += 1
            remarks.add("wrong outcome", f"job {job.number}, {job_id}: {_seen(ended, job, seen_calls, hits)}")
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


def is_right(ended: Stored, job: workload.ChaosJob, hits: Hits) -> bool:
    """Return True if this is the outcome that the job asks for.

    A dead letter is right if the job was in flight at that many crashes of its worker.
    """
    if ended.is_dead_letter:
        faults = hits.get(job.content, {})
        return sum(faults.get(fault, 0) for fault in CRASHES) >= MAX_CRASHES
    # The simulator repeats the question.
    return ended.succeeded == job.succeeds and (not ended.succeeded or ended.text.endswith(job.content))


def _seen(ended: Stored, job: workload.ChaosJob, seen_calls: Mapping[str, Mapping[str, int]], hits: Hits) -> str:
    faults = {str(fault): count for fault, count in hits.get(job.content, {}).items()}
    return f"{ended.text[:200]}; {job.content}, calls {dict(seen_calls.get(job.content, {}))}, in flight at {faults}"


def add_lines(
    options: ChaosOptions,
    system: System,
    numbers: Iterable[int],
    files: Iterable[Path],
    seen_calls: Mapping[str, Mapping[str, int]],
    hits: Hits,
    found: Lines,
    remarks: Remarks,
) -> None:
    """Check that each input line of a batch is in exactly one of the files, once, with its own outcome."""
    expected = {workload.custom_id(number): number for number in numbers}
    counts: Counter[str] = Counter()
    found.expected += len(expected)
    for path in files:
        for line in path.read_bytes().splitlines() if path.exists() else []:
            entry = _entry(line)
            custom_id = entry.get("custom_id", "")
            if custom_id in expected:
                counts[custom_id] += 1
                job = workload.job(options.seed, expected[custom_id])
                ended = system.line_ended(entry)
                found.dead_letters += ended.is_dead_letter
                if not is_right(ended, job, hits):
                    found.wrong += 1
                    remarks.add("wrong line", f"{path.name}, {custom_id}: {_seen(ended, job, seen_calls, hits)}")
            else:
                found.unexpected += 1
                remarks.add("unexpected line", f"{path.name}: {line[:100]!r}")
    for custom_id in sorted(expected.keys() - counts.keys()):
        found.missing += 1
        remarks.add("missing line", custom_id)
    for custom_id, count in counts.items():
        if count > 1:
            found.duplicated += 1
            remarks.add("duplicated line", f"{custom_id}: {count} times")


def _entry(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def add_calls(
    options: ChaosOptions,
    seen_calls: Mapping[str, Mapping[str, int]],
    hits: Hits,
    remarks: Remarks,
    times: Callable[[str], object] = lambda _: "unknown",
) -> Calls:
    """Count repeated calls: admitted calls beyond those that the job needs.

    Rate-limited calls (429) are not counted, because they cost nothing. `hits` maps a request to the faults during
    which it was in flight. Each of these faults explains one repetition, and nothing else does. The simulator does not
    count calls during an outage. `times` returns when a request came, for the remarks.
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
        faults = hits.get(job.content, {})
        if repeated and len(faults) == 1:
            found.only_at.update({next(iter(faults)): repeated})
        if repeated > sum(faults.values()):
            found.unexplained += repeated - sum(faults.values())
            named = {str(fault): count for fault, count in faults.items()}
            remarks.add(
                "repeated without a reason", f"job {number}: {dict(seen)} at {times(job.content)}, faults {named}"
            )
    return found
