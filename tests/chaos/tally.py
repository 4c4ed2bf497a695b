"""Adding up: accepted against outcomes, input against output lines, calls seen against calls needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from tests.chaos import workload
from tests.chaos.options import ChaosOptions
from tests.chaos.system import System
from tests.chaos.witness import Witness

MOST_REMARKS = 10


@dataclass(slots=True)
class Remarks:
    """A few examples of each kind of wrong, for whoever has to find out why."""

    lines: list[str] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def has_room(self, kind: str) -> bool:
        return self._counts[kind] < MOST_REMARKS

    def add(self, kind: str, text: str) -> None:
        if self.has_room(kind):
            self.lines.append(f"{kind}: {text}")
        self._counts[kind] += 1


@dataclass(slots=True)
class Outcomes:
    """Single jobs."""

    accepted: int = 0
    accepted_twice: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    own_unanswered: int = 0
    unconfessed: int = 0


@dataclass(slots=True)
class Lines:
    """Batch files."""

    wanted: int = 0
    missing: int = 0
    doubled: int = 0
    strange: int = 0


@dataclass(slots=True)
class Calls:
    """What the simulated API saw of the jobs."""

    made: int = 0
    repeated: int = 0
    unexplained: int = 0
    answered_again: int = 0


def add_outcomes(
    options: ChaosOptions,
    system: System,
    accepted: Mapping[int, set[str]],
    witness: Witness,
    seen_calls: Mapping[str, Mapping[str, int]],
    remarks: Remarks,
) -> Outcomes:
    """`accepted`: job number to the ids that its producer was given; `seen_calls`: the simulator's, by content."""
    found = Outcomes(accepted=len(accepted))
    numbers = {job_id: number for number, ids in accepted.items() for job_id in ids}
    for number, ids in accepted.items():
        if len(ids) > 1:
            found.accepted_twice += 1
            remarks.add("accepted twice", f"job {number}: {sorted(ids)}")
    for job_id, record in witness.final_records(list(numbers)):
        job = workload.job(options.seed, numbers[job_id])
        if record is None:
            found.lost += 1
            known = system.describe(witness.client, job_id) if remarks.has_room("lost") else ""
            remarks.add("lost", f"job {job.number}, {job_id}, calls: {seen_calls.get(job.content)}; {known}")
            continue
        ended = system.ended(record)
        if ended.succeeded != job.succeeds or (ended.succeeded and not _answers(ended.text, job)):
            found.wrong += 1
            remarks.add("wrong outcome", f"job {job.number}, {job_id}: {ended.text[:200]}")
        found.own_unanswered += ended.unanswered_calls
        answered = seen_calls.get(job.content, {}).get("answered", 0)
        if answered - 1 > ended.unanswered_calls:
            found.unconfessed += 1
            remarks.add(
                "unconfessed",
                f"job {job.number}, {job_id}: answered {answered} times, owns to {ended.unanswered_calls}",
            )
    found.doubled = len(witness.doubled)
    for job_id in witness.doubled:
        remarks.add("doubled outcome", f"{job_id} (job {numbers.get(job_id, 'of a batch')})")
    return found


def _answers(text: str, job: workload.ChaosJob) -> bool:
    # The simulator says the question again.
    return text.endswith(job.content)


def add_lines(numbers: Iterable[int], files: Iterable[Path], remarks: Remarks) -> Lines:
    """One batch: each line of its input once, in the one file or the other."""
    wanted = {workload.custom_id(number) for number in numbers}
    counts: Counter[str] = Counter()
    found = Lines(wanted=len(wanted))
    for path in files:
        for line in path.read_bytes().splitlines() if path.exists() else []:
            custom_id = _custom_id(line)
            if custom_id in wanted:
                counts[custom_id] += 1
            else:
                found.strange += 1
                remarks.add("strange line", f"{path.name}: {line[:100]!r}")
    for custom_id in sorted(wanted - counts.keys()):
        found.missing += 1
        remarks.add("missing line", custom_id)
    for custom_id, count in counts.items():
        if count > 1:
            found.doubled += 1
            remarks.add("doubled line", f"{custom_id}: {count} times")
    return found


def _custom_id(line: bytes) -> str:
    try:
        return str(orjson.loads(line)["custom_id"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def add_calls(
    options: ChaosOptions, seen_calls: Mapping[str, Mapping[str, int]], hit: Mapping[str, int], remarks: Remarks
) -> Calls:
    """Every call that was let in and that its job's script does not account for is a repeated one.

    Refusals (429) are left out: a refused call costs nothing. `hit`: at how many blows a request was under way; each of
    them may be why it was sent once more, and nothing else may. Calls during an outage are not among those seen.
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
            remarks.add("repeated for no reason", f"job {number}: {seen}, under way at {hit.get(job.content, 0)} blows")
    return found
