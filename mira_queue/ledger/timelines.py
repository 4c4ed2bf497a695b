"""Timelines of single jobs, and what workers run now. Scripts that run anyway write them (lib/timeline.lua)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from mira_queue.contract import names
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.timeline import TimelineEvent, timeline_of
from mira_queue.ledger.script_runner import ScriptRunner, decode


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that a worker has. `worker` is PID@HOST. `called_ms` is when its call was sent, or None if it waits for it.

    `group` is that of a line of a file; it is empty for a single job.
    """

    id: str
    worker: str
    claimed_ms: int
    called_ms: int | None
    model: str
    group: str
    project: str


class Timelines(ScriptRunner):
    """Operations of people who look at jobs."""

    def timeline(self, job_id: str) -> list[TimelineEvent]:
        """Return the events of a job, the oldest first. Lines of files have no earlier leases. Raises JobNotFound."""
        pipeline: Any = self._client.pipeline(transaction=False)
        raw, entries = pipeline.hgetall(names.job_key(job_id)).lrange(names.timeline_key(job_id), 0, -1).execute()
        if not raw:
            raise JobNotFound(job_id)
        job = {decode(name): decode(value) for name, value in raw.items()}
        leases: list[Any] = [orjson.loads(entry) for entry in entries]
        if "leases_left_out" in job:
            leases.insert(names.FIRST_LEASES, {})
        return timeline_of(job, leases)

    def running_jobs(self, account: str, limit: int = 100) -> list[RunningJob]:
        """Return at most `limit` jobs of the account that workers have."""
        ids: Any = self._client.zrange(names.leased_key(account), 0, limit - 1)
        fields = ("worker", "claimed_ms", "calling", "model", "group", "project", "state")
        pipeline: Any = self._client.pipeline(transaction=False)
        for job_id in ids:
            pipeline.hmget(names.job_key(decode(job_id)), fields)
        found = []
        for job_id, values in zip(ids, pipeline.execute(), strict=True):
            worker, claimed, calling, model, group, project, state = (decode(value or b"") for value in values)
            if state == "running":
                called_ms = int(calling) if calling else None
                found.append(RunningJob(decode(job_id), worker, int(claimed or 0), called_ms, model, group, project))
        return found
