"""Idempotency keys of a project, as the ledger has them. Pure.

The command line and the Python API have keys of their own for the same account.
"""

from __future__ import annotations

from mira_queue.contract.states import JobStatus

# No user names a key like this by accident.
_PREFIX = "mira-queue/gateway"


def project_key(project: str, key: str) -> str:
    """Return the key under which the ledger has a key of a project; without a key, none."""
    return f"{_prefix_of(project)}{key}" if key else ""


def key_of(job: JobStatus) -> str:
    """Return the key that the creator of a job has given."""
    return job.key.removeprefix(_prefix_of(job.project))


def _prefix_of(project: str) -> str:
    return f"{_PREFIX}/{project}:"
