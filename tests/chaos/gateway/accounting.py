"""Compare what clients created with the objects, their outcomes, their calls, and their webhooks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai.types import Batch

from tests.chaos import workload
from tests.chaos.accounting import Hits, Remarks, is_right
from tests.chaos.gateway.clients import Create, Kind, file_name, is_cancelled, project_of
from tests.chaos.gateway.objects import EVENT_OF, FINAL_BATCHES, Objects, plain_id
from tests.chaos.gateway.options import GatewayOptions
from tests.chaos.gateway.webhook_log import Arrival
from tests.chaos.system import Stored

# The paths of the receiver: that of the endpoint of the first project, and that of the URLs of the second one.
PATHS = ("/endpoint", "/own")


@dataclass(slots=True)
class Found:
    """Counts of the creates of one group: single jobs, files, or batches."""

    returned: int = 0
    failed: int = 0
    #: Failed for the client, although the object exists.
    unseen: int = 0
    lost: int = 0
    duplicated: int = 0
    other: int = 0
    unknown: int = 0


def add_creates(done: Sequence[Create], objects: Mapping[int, Sequence[str]], what: str, remarks: Remarks) -> Found:
    """Compare creates with the ids of the objects of each number."""
    found = Found()
    # A client may try again after an error.
    returned = {create.number for create in done if create.id}
    for create in done:
        ids = objects.get(create.number, ())
        if create.id:
            found.returned += 1
            if not ids:
                found.lost += 1
                remarks.add(f"lost {what}", f"{create}")
            elif plain_id(create.id) not in ids:
                found.other += 1
                remarks.add(f"another {what}", f"{create}: {ids}")
        else:
            found.failed += 1
            found.unseen += bool(ids) and create.number not in returned
        if len(ids) > 1:
            found.duplicated += 1
            remarks.add(f"duplicated {what}", f"{create}: {ids}")
    for number in objects.keys() - {create.number for create in done}:
        found.unknown += 1
        remarks.add(f"unknown {what}", f"number {number}: {objects[number]}")
    return found


def jobs_by_number(objects: Objects) -> dict[int, list[str]]:
    found = defaultdict(list)
    for job in objects.jobs:
        found[int(job["metadata"].get("n", -1))].append(plain_id(job["id"]))
    return found


def batches_by_number(objects: Objects) -> dict[int, list[str]]:
    found = defaultdict(list)
    for batch in objects.batches:
        found[int((batch.metadata or {}).get("n", -1))].append(batch.id)
    return found


def files_by_number(objects: Objects, done: Sequence[Create]) -> dict[int, list[str]]:
    names = {file_name(create.number): create.number for create in done if create.kind is Kind.FILE}
    found = defaultdict(list)
    for file_id, name in objects.files:
        found[names.get(name, -1)].append(plain_id(file_id))
    return found


@dataclass(slots=True)
class JobOutcomes:
    """Counts of the outcomes of single jobs."""

    unfinished: int = 0
    wrong: int = 0
    states: Counter[str] = field(default_factory=Counter)
    hidden: int = 0


def add_job_outcomes(
    options: GatewayOptions,
    objects: Objects,
    outcome_of: Callable[[str], Mapping[str, Any]],
    calls: Mapping[str, Mapping[str, int]],
    hits: Hits,
    remarks: Remarks,
) -> JobOutcomes:
    """Check that each job has the outcome that its request asks for."""
    found = JobOutcomes()
    for listed in objects.jobs:
        job = outcome_of(listed["id"])
        state = job["state"]
        found.states[state] += 1
        wanted = workload.job(options.seed, int(job["metadata"].get("n", -1)))
        if state not in EVENT_OF:
            found.unfinished += 1
            remarks.add("unfinished", f"{job}")
        elif state == "cancelled":
            if not is_cancelled(options.seed, wanted.number):
                found.wrong += 1
                remarks.add("cancelled by nobody", f"{job}")
        elif not is_right(_stored(job), wanted, hits):
            found.wrong += 1
            remarks.add("wrong outcome", f"{job}: {dict(hits.get(wanted.content, {}))}")
        answered = calls.get(wanted.content, {}).get("answered", 0)
        if state == "succeeded" and answered - 1 > job["unanswered_calls"]:
            found.hidden += 1
            remarks.add("undeclared duplicate answer", f"answered {answered} times: {job}")
    return found


def _stored(job: Mapping[str, Any]) -> Stored:
    if job["state"] == "succeeded":
        text = job["completion"]["choices"][0]["message"]["content"]
        return Stored(True, text, job["unanswered_calls"])
    return Stored(False, job["error"]["message"], job["unanswered_calls"], job["code"] == "poison")


@dataclass(slots=True)
class Webhooks:
    """Counts of webhooks: one is expected for each object."""

    expected: int = 0
    missing: int = 0
    repeated: int = 0
    false: int = 0
    several_events: int = 0


def expected_webhooks(objects: Objects) -> dict[tuple[str, str], str]:
    """Return the type of the event of each object that has ended, by the path of its receiver and its plain id."""
    ends = [
        (job["metadata"], plain_id(job["id"]), EVENT_OF[job["state"]])
        for job in objects.jobs
        if job["state"] in EVENT_OF
    ]
    ends += [
        (batch.metadata or {}, batch.id, f"batch.{batch.status}")
        for batch in objects.batches
        if batch.status in FINAL_BATCHES
    ]
    return {(PATHS[project_of(int(metadata["n"]))], an_id): kind for metadata, an_id, kind in ends}


def missing_webhooks(expected: Mapping[tuple[str, str], str], arrivals: Mapping[Arrival, int]) -> set[tuple[str, str]]:
    return expected.keys() - {(arrival.path, plain_id(arrival.subject)) for arrival in list(arrivals)}


def add_webhooks(
    expected: Mapping[tuple[str, str], str], arrivals: Mapping[Arrival, int], remarks: Remarks
) -> Webhooks:
    """Compare the objects with the webhooks that arrived."""
    found = Webhooks(expected=len(expected))
    for path, an_id in missing_webhooks(expected, arrivals):
        found.missing += 1
        remarks.add("no webhook", f"{an_id} at {path}")
    ids: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for arrival, count in arrivals.items():
        place = (arrival.path, plain_id(arrival.subject))
        ids[place].add(arrival.webhook_id)
        found.repeated += count - 1
        if expected.get(place) != arrival.type:
            found.false += 1
            remarks.add("false webhook", f"{arrival}: the object is {expected.get(place, 'unknown')}")
    for place, webhook_ids in ids.items():
        if len(webhook_ids) > 1:
            found.several_events += 1
            remarks.add("several events", f"{place}: {sorted(webhook_ids)}")
    return found


def wrong_counts(options: GatewayOptions, batches: Sequence[Batch], remarks: Remarks) -> int:
    """Count the batches that are not completed, or whose request_counts are not those of their lines."""
    found = 0
    for batch in batches:
        number = int((batch.metadata or {}).get("n", -1))
        jobs = [workload.job(options.seed, each) for each in options.numbers_of_batch(number)]
        succeed = sum(job.succeeds for job in jobs)
        counts = batch.request_counts
        seen = (counts.total, counts.completed, counts.failed) if counts else None
        if batch.status != "completed" or seen != (len(jobs), succeed, len(jobs) - succeed):
            found += 1
            remarks.add("wrong counts", f"{batch.id} is {batch.status}: {seen}, {succeed} of {len(jobs)} succeed")
    return found
