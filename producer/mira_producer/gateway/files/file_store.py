"""Uploaded files, in the state directory: a folder for each file, with its content and its record.

A file appears complete or not at all: it is written to a folder of another name, synced, and renamed.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson

from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.files.records import Records
from mira_producer.gateway.http.errors import ApiError, storage_full
from mira_queue.contract.file_id import FileId, FileKind, parse_file_id
from mira_queue.runtime.private_files import make_private_dir, private_opener

_CONTENT, _RECORD = "content", "file.json"
_PART = ".part-"
# An upload that is still running has written within BODY_IDLE_S.
ABANDONED_AFTER_S = 3600.0


class PartialFile:
    """A file that is being received. Unless `finish` succeeds, nothing of it is left at the end of its context."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.folder = root / f"{_PART}{uuid.uuid4().hex}"
        with storing():
            make_private_dir(self.folder)
            self._file = open(self.folder / _CONTENT, "xb", buffering=0, opener=private_opener)  # noqa: SIM115
        self.bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Raises ApiError if the disk is full."""
        with storing():
            self.bytes += len(data)
            while data:
                data = data[self._file.write(data) :]

    def keep_as(self, path: Path) -> None:
        """Store only the content, under this path. When this returns, it is on disk."""
        with storing():
            os.fsync(self._file.fileno())
            (self.folder / _CONTENT).rename(path)
            sync_dir(path.parent)

    def finish(self, file_id: FileId, filename: str, purpose: str, project: str, ttl_s: int) -> FileEntry:
        """Store the file under this id. When this returns, it is on disk.

        If it exists, an earlier request has stored it, and it is returned.
        """
        now_s = time.time()
        target = self._root / str(file_id)
        record = {
            "filename": filename,
            "bytes": self.bytes,
            "created_at": int(now_s),
            "purpose": purpose,
            "project": project,
            "expires_at": int(now_s) + ttl_s,
        }
        with storing():
            os.fsync(self._file.fileno())
            with open(self.folder / _RECORD, "xb", opener=private_opener) as written:
                written.write(orjson.dumps(record))
                written.flush()
                os.fsync(written.fileno())
            sync_dir(self.folder)
            try:
                self.folder.rename(target)
            except OSError:
                stored = _stored(target, Records())
                if stored is None:
                    raise
            else:
                stored = FileEntry.of_record(target.name, target / _CONTENT, record)
            sync_dir(self._root)
        return stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        # It has another name if it was finished.
        shutil.rmtree(self.folder, ignore_errors=True)


class FileStore:
    """The uploaded files of a state directory. Several gateways may use the same one."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir.expanduser() / "files"
        # Records never change.
        self._entries: dict[str, FileEntry] = {}
        self._records = Records()

    def begin(self) -> PartialFile:
        """Raises ApiError if the directory cannot be written to."""
        return PartialFile(self._root)

    def holds(self, file: FileEntry) -> bool:
        """Return True if this is a file of the store, and not of a batch."""
        return self._root in file.path.parents

    def get(self, file_id: str) -> FileEntry | None:
        """Return a file, or None if it does not exist or has expired."""
        parsed = parse_file_id(file_id)
        if parsed is None or parsed.kind is not FileKind.UPLOAD:
            return None
        found = self._entries.get(file_id) or self._read(file_id)
        return None if found is None or found.is_expired or not found.path.exists() else found

    def all(self) -> Iterator[FileEntry]:
        """Yield all files that have not expired."""
        names = self._names()
        for gone in self._entries.keys() - names:
            self._entries.pop(gone, None)
        for name in names:
            found = self._entries.get(name) or self._read(name)
            if found is not None and not found.is_expired:
                yield found

    def delete(self, file_id: str) -> None:
        # In one step: a reader finds the whole file, or none.
        removed = self._root / f"{_PART}{uuid.uuid4().hex}"
        with suppress(FileNotFoundError):
            (self._root / file_id).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def sweep(self) -> int:
        """Delete expired files, and what killed uploads have left. Return how many were deleted."""
        expired = [name for name in self._names() if (entry := self._read(name)) is not None and entry.is_expired]
        for name in expired:
            self.delete(name)
        abandoned = [path for path in self._root.glob(f"{_PART}*") if _age_s(path / _CONTENT) > ABANDONED_AFTER_S]
        for path in abandoned:
            shutil.rmtree(path, ignore_errors=True)
        return len(expired) + len(abandoned)

    def _names(self) -> set[str]:
        try:
            return {name for name in os.listdir(self._root) if parse_file_id(name)}
        except FileNotFoundError:
            return set()

    def _read(self, file_id: str) -> FileEntry | None:
        entry = _stored(self._root / file_id, self._records)
        if entry is not None:
            self._entries[file_id] = entry
        return entry


def _stored(folder: Path, records: Records) -> FileEntry | None:
    return records.read(folder / _RECORD, lambda record: FileEntry.of_record(folder.name, folder / _CONTENT, record))


@contextmanager
def storing() -> Iterator[None]:
    """Translate errors of the disk into the response for them."""
    try:
        yield
    except OSError as error:
        raise disk_error(error) from error


def disk_error(error: OSError) -> ApiError:
    return storage_full(error.strerror or type(error).__name__)


def sync_dir(path: Path) -> None:
    """Make a rename in this directory survive a power failure."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        # Between its directory and its content, or already removed.
        return 0.0
