"""Objects of the gateway at the end, as a client with an admin key reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
from openai.types import Batch

FINAL_JOBS = ("succeeded", "failed", "cancelled")
FINAL_BATCHES = ("completed", "failed", "expired", "cancelled")
# The type of the event of a job that has ended.
EVENT_OF = {"succeeded": "response.completed", "failed": "response.failed", "cancelled": "response.cancelled"}


@dataclass(frozen=True)
class Objects:
    """All objects: the jobs behind responses and completions, batches, and the ids and names of the files."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)

    @property
    def is_final(self) -> bool:
        return all(job["state"] in FINAL_JOBS for job in self.jobs) and all(
            batch.status in FINAL_BATCHES for batch in self.batches
        )

    @property
    def final_count(self) -> int:
        jobs = sum(job["state"] in FINAL_JOBS for job in self.jobs)
        lines = sum(
            batch.request_counts.completed + batch.request_counts.failed
            for batch in self.batches
            if batch.request_counts is not None
        )
        return jobs + lines


def read_objects(client: openai.OpenAI) -> Objects:
    """Read all lists, page by page."""
    files = [(file.id, file.filename) for file in client.files.list() if file.purpose == "batch"]
    return Objects(list(_jobs(client)), list(client.batches.list(limit=100)), files)


def outcome_of(client: openai.OpenAI, job_id: str) -> dict[str, Any]:
    found: Any = client.get(f"/jobs/{job_id}", cast_to=object)
    return dict(found)


def save_files(client: openai.OpenAI, batch: Batch, folder: Path) -> list[Path]:
    """Write the output and the errors of a batch into `folder`, and return the paths."""
    paths = []
    for file_id in (batch.output_file_id, batch.error_file_id):
        if file_id:
            path = folder / f"{file_id}.jsonl"
            client.files.content(file_id).write_to_file(path)
            paths.append(path)
    return paths


def plain_id(an_id: str) -> str:
    """Return an id without dashes. That of a response or a completion becomes that of the job behind it."""
    return an_id.removeprefix("resp_").removeprefix("chatcmpl-").replace("-", "")


def _jobs(client: openai.OpenAI) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        query = f"?limit=100&after={after}" if after else "?limit=100"
        page: Any = client.get(f"/jobs{query}", cast_to=object)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["data"][-1]["id"]
