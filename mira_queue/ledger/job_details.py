"""Details of one job, for people who look at it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mira_queue.contract import names
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.states import JobStatus
from mira_queue.ledger.jobs import status_of
from mira_queue.ledger.script_runner import ScriptRunner, decode


@dataclass(frozen=True, slots=True)
class JobDetails:
    """A job with what its status does not have.

    `group` is that of a line of a file. `webhook` is a URL, the id of an endpoint, ENDPOINTS_ONLY, or empty. `request`
    is the body of its request, or None if it was not asked for, or is deleted: that of a job that has succeeded is.
    """

    status: JobStatus
    group: str
    webhook: str
    request: bytes | None


class JobDetailsReader(ScriptRunner):
    """Operations of people who look at one job."""

    def details(self, job_id: str, *, with_request: bool = False) -> JobDetails:
        """Return the details of a job, in one round trip. Raises JobNotFound."""
        pipeline: Any = self._client.pipeline(transaction=False)
        pipeline.hgetall(names.job_key(job_id))
        if with_request:
            pipeline.get(names.request_key(job_id))
        raw, *requests = pipeline.execute()
        if not raw:
            raise JobNotFound(job_id)
        entry = {decode(name): decode(value) for name, value in raw.items()}
        request = requests[0] if requests else None
        return JobDetails(status_of(job_id, entry), entry.get("group", ""), entry.get("webhook", ""), request)
