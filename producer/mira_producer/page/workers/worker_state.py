"""State of each live worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mira_producer.page.visitor import Audience
from mira_producer.text import plural
from mira_queue.contract.batch import Batch
from mira_queue.ledger.accounts import LiveWorker
from mira_queue.ledger.timelines import RunningJob

# Calls of one worker that are listed; the others are counted.
MAX_CALLS = 5


@dataclass(frozen=True, slots=True)
class Call:
    """A call in flight. `place` is the view of its job or its batch; empty if the user may not see it."""

    title: str
    place: str
    model: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class WorkerState:
    """A worker process. `calls` are the oldest of its calls in flight, of which it has `in_flight`.

    Of its jobs, `waiting` wait for a permit.
    """

    name: str
    accounts: Sequence[str]
    in_flight: int
    waiting: int
    calls: Sequence[Call]

    @property
    def words(self) -> str:
        parts = [
            f"{plural(self.in_flight, 'call')} in flight" if self.in_flight else "",
            f"{plural(self.waiting, 'job')} waiting for a permit" if self.waiting else "",
        ]
        return ", ".join(part for part in parts if part) or "idle"


def worker_states(
    live: Iterable[LiveWorker], running: Iterable[RunningJob], batches: Mapping[str, Batch], audience: Audience
) -> list[WorkerState]:
    """Return the live workers by name. `batches` are known batches by the group of their jobs."""
    accounts: dict[str, list[str]] = {}
    for worker in live:
        accounts.setdefault(worker.name, []).append(worker.account)
    jobs: dict[str, list[RunningJob]] = {name: [] for name in accounts}
    for job in running:
        if job.worker in jobs:
            jobs[job.worker].append(job)
    return [_state(name, accounts[name], jobs[name], batches, audience) for name in sorted(accounts)]


def _state(
    name: str, accounts: list[str], jobs: list[RunningJob], batches: Mapping[str, Batch], audience: Audience
) -> WorkerState:
    calls = sorted(((job.called_ms, job) for job in jobs if job.called_ms is not None), key=lambda each: each[0])
    shown = [_call(job, since_ms, batches, audience) for since_ms, job in calls[:MAX_CALLS]]
    return WorkerState(name, sorted(accounts), len(calls), len(jobs) - len(calls), shown)


def _call(job: RunningJob, since_ms: int, batches: Mapping[str, Batch], audience: Audience) -> Call:
    if job.group:
        batch = batches.get(job.group)
        if batch is None or not audience.sees(batch.origin.project):
            return Call("a line of a batch", "", job.model, since_ms)
        return Call(f"a line of {batch.input_name}", f"/batches/{batch.id}", job.model, since_ms)
    if not audience.sees(job.project):
        return Call("a job of another project", "", "", since_ms)
    return Call(f"job {job.id}", f"/jobs/{job.id}", job.model, since_ms)
