"""Ids of jobs."""

from __future__ import annotations

import uuid

from mira_queue.ledger.records import new_job_id, new_job_ids


def test_ids_are_random_uuids_as_the_library_writes_them() -> None:
    ids = [*new_job_ids(1000), new_job_id()]

    assert len(set(ids)) == 1001
    for job_id in ids:
        known = uuid.UUID(job_id)
        assert (str(known), known.version, known.variant) == (job_id, 4, uuid.RFC_4122)
