"""Verification of a batch that has ended, remembered next to its files for as long as they stay the same."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import orjson

from mira_producer.jsonl.verify import Verdict, verify
from mira_queue.contract.batch import Batch, BatchFiles
from mira_queue.runtime.private_files import private_opener


def verify_batch(batch: Batch, files: BatchFiles) -> Verdict:
    """Compare the files of a batch: every line has one answer or error. Raises InvalidInput."""
    state = _state(files)
    verdict = verify(files.input, files.output, files.errors)
    if batch.status.is_final:
        path = _path(files)
        part = path.with_suffix(f".{os.getpid()}")
        # Without room for it, the next verification reads the files again.
        with suppress(OSError):
            with open(part, "wb", opener=private_opener) as written:
                written.write(orjson.dumps({"complete": verdict.is_complete, "files": state}))
            part.replace(path)
    return verdict


def is_verified(files: BatchFiles) -> bool | None:
    """Return the last verdict, or None if the files were never verified, or have changed since."""
    with suppress(OSError, ValueError, KeyError):
        found = orjson.loads(_path(files).read_bytes())
        if found["files"] == _state(files):
            return bool(found["complete"])
    return None


def _path(files: BatchFiles) -> Path:
    return files.record.with_suffix(".verified")


def _state(files: BatchFiles) -> list[list[int]]:
    return [[path.stat().st_size, path.stat().st_mtime_ns] for path in (files.output, files.errors) if path.exists()]
