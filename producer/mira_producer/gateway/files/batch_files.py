"""The input, the answers, and the errors of batches as files. Their ids follow from that of the batch."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from mira_producer.batches.client import Batches
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, OUTPUT_PURPOSE, FileEntry
from mira_producer.gateway.http.errors import conflict
from mira_queue.contract.batch import PREFIX, Batch
from mira_queue.contract.errors import BatchNotFound
from mira_queue.contract.file_id import FileKind, parse_file_id

_SEARCHED_BYTES = 64 * 1024
_ENDINGS = {FileKind.OUTPUT: "output", FileKind.ERRORS: "errors"}


class BatchFiles:
    """The files of the batches whose files are on this machine."""

    def __init__(self, batches: Batches, result_ttl_s: int) -> None:
        self._batches = batches
        self._result_ttl_s = result_ttl_s

    def get(self, file_id: str) -> FileEntry | None:
        """Return a file, or None if it does not exist (yet), or has expired."""
        parsed = parse_file_id(file_id)
        if parsed is None or parsed.kind is FileKind.UPLOAD:
            return None
        try:
            batch = self._batches.get(PREFIX + parsed.rest)
        except BatchNotFound:
            return None
        found = self._entry(batch, parsed.kind)
        return found if found is not None and found.id == file_id else None

    def all(self) -> Iterator[FileEntry]:
        """Yield the files of all batches. The input of a batch that came over HTTP is a file of its own."""
        for batch in self._batches.all():
            kinds = [FileKind.OUTPUT, FileKind.ERRORS] if batch.origin.file_id else [*FileKind][1:]
            yield from filter(None, (self._entry(batch, kind) for kind in kinds))

    def delete(self, file: FileEntry) -> None:
        """Delete the answers or the errors of a batch that has ended. Raises ApiError."""
        parsed = parse_file_id(file.id)
        assert parsed is not None
        batch = self._batches.get(PREFIX + parsed.rest)
        if parsed.kind is FileKind.INPUT or batch.is_run:
            raise conflict(f"file {file.id} belongs to the command line: it goes with its batch", "invalid_state")
        if not batch.status.is_final:
            raise conflict(f"batch {batch.id} still writes this file: cancel the batch first", "invalid_state")
        file.path.unlink(missing_ok=True)

    def sweep(self) -> int:
        """Delete the answers and errors that have expired before their batch. Return how many were deleted."""
        count = 0
        for batch in self._batches.all():
            for kind in _ENDINGS:
                found = self._entry(batch, kind, with_expired=True) if batch.origin.output_ttl_s else None
                if found is not None and found.is_expired:
                    found.path.unlink(missing_ok=True)
                    count += 1
        return count

    def _entry(self, batch: Batch, kind: FileKind, *, with_expired: bool = False) -> FileEntry | None:
        files = self._batches.spool.files_of(batch)
        if files is None:
            return None
        path = {FileKind.INPUT: files.input, FileKind.OUTPUT: files.output, FileKind.ERRORS: files.errors}[kind]
        size = complete_bytes(path) if kind in _ENDINGS else _size(path)
        if not size:
            return None
        name = batch.input_name if kind is FileKind.INPUT else f"{batch.id}_{_ENDINGS[kind]}.jsonl"
        entry = FileEntry(
            batch.file_id(kind),
            path,
            size,
            batch.created_at,
            name,
            OUTPUT_PURPOSE if kind in _ENDINGS else BATCH_PURPOSE,
            batch.origin.project,
            self._expires_at(batch, kind),
        )
        return None if entry.is_expired and not with_expired else entry

    def _expires_at(self, batch: Batch, kind: FileKind) -> int:
        if not batch.ended_at or batch.is_run:
            return 0
        asked_s = batch.origin.output_ttl_s if kind in _ENDINGS else 0
        return batch.ended_at + min(asked_s or self._result_ttl_s, self._result_ttl_s)


def complete_bytes(path: Path) -> int:
    """Return the size of the complete lines of a file, which may be growing, or not exist."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _SEARCHED_BYTES)
                file.seek(start)
                place = file.read(end - start).rfind(b"\n")
                if place >= 0:
                    return start + place + 1
                end = start
    except FileNotFoundError:
        pass
    return 0


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
