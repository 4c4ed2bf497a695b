"""Search: which job, or which line of a batch, an ID or an idempotency key names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mira_producer.client import MiraQueue
from mira_producer.gateway.jobs.job_ids import job_of_completion, job_of_response
from mira_producer.gateway.jobs.project_key import project_key
from mira_producer.page.visitor import Audience
from mira_queue.contract.errors import JobNotFound
from mira_queue.contract.states import JobStatus

# A line of an output file; the copy of another line's answer has a number.
_LINE_ID = re.compile(r"batch_req_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:-\d{1,12})?")
_JOB_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def job_of_line(text: str) -> str:
    """Return the job of a line of an output file, or an empty string if the text is not the ID of one."""
    found = _LINE_ID.fullmatch(text)
    return found[1] if found else ""


def find_jobs(queue: MiraQueue, audience: Audience, text: str) -> list[JobStatus]:
    """Return the jobs that the text names: by their ID in any form, or by their idempotency key.

    Each account, and each project, has idempotency keys of its own, so a key may name several jobs.
    """
    job_ids = dict.fromkeys([*_ids(text), *_of_key(queue, audience, text)])
    found = []
    for job_id in job_ids:
        try:
            job = queue.ledger.status(job_id)
        except JobNotFound:
            continue
        if audience.sees(job.project):
            found.append(job)
    return found


def _ids(text: str) -> Iterator[str]:
    lower = text.lower()
    named = lower if _JOB_ID.fullmatch(lower) else ""
    for job_id in (named, job_of_response(text), job_of_completion(text), job_of_line(text)):
        if job_id:
            yield job_id


def _of_key(queue: MiraQueue, audience: Audience, key: str) -> Iterator[str]:
    ledger = queue.ledger
    projects = [audience.project] if audience.project else sorted({each.project for each in ledger.api_keys()})
    names = [project_key(project, key) for project in projects]
    if not audience.project:
        # That of a job of the Python client, or of the command line.
        names.append(key)
    for account in ledger.accounts():
        yield from filter(None, ledger.holders(account, names))
