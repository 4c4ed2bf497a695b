"""Results about the files of a batch for callers who must not learn where they are: with the ids of the files. Pure."""

from __future__ import annotations

from dataclasses import replace

from mira_producer.jsonl.verify import Verdict
from mira_queue.contract.batch import Batch, BatchFiles
from mira_queue.contract.file_id import FileKind


def without_paths(text: str, batch: Batch, files: BatchFiles) -> str:
    """Return a message with the id of a file for its path. Of other files in their directory, the name stays."""
    kinds = {files.input: FileKind.INPUT, files.output: FileKind.OUTPUT, files.errors: FileKind.ERRORS}
    for path, kind in kinds.items():
        text = text.replace(str(path), batch.file_id(kind))
    for folder in {path.parent for path in (*kinds, files.record)}:
        text = text.replace(f"{folder}/", "")
    return text


def verdict_without_paths(verdict: Verdict, batch: Batch, files: BatchFiles) -> Verdict:
    """Return a verdict whose examples name the ids of the files."""
    for problems in verdict.problems.values():
        problems.first = [replace(each, path=without_paths(each.path, batch, files)) for each in problems.first]
    return verdict


def batch_without_paths(batch: Batch, files: BatchFiles) -> Batch:
    """Return a batch whose reason for a pause names the ids of the files."""
    return replace(batch, paused=without_paths(batch.paused, batch, files))
