"""Uploads in parts, in the state directory: a folder for each upload, with its record, its parts, and a lock.

A part is a file that was written under another name, synced, and renamed. The parts stay until the assembled file is
stored, so a killed gateway loses none, and the client completes the upload again.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter
from typing_extensions import TypedDict

from mira_producer.batches.lock import wait_for_lock
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, FileEntry, FileObject
from mira_producer.gateway.files.file_store import FileStore, PartialFile, storing, sync_dir
from mira_producer.gateway.files.records import Records
from mira_producer.gateway.http.errors import conflict, invalid, not_found
from mira_queue.contract.api_key import ApiKey
from mira_queue.contract.file_id import file_id_of
from mira_queue.contract.known_fields import all_fields, stored_fields
from mira_queue.runtime.private_files import make_private_dir, private_opener

TTL_S = 3600
READ_BYTES = 1024 * 1024
_RECORD, _LOCK, _PART, _UPLOAD = "upload.json", "lock", "part_", "upload_"
_UPLOAD_ID = re.compile(r"upload_[0-9a-f]{32}")
_PART_ID = re.compile(r"part_[0-9a-f]{32}")

Status = Literal["pending", "completed", "cancelled", "expired"]


class UploadObject(TypedDict):
    """An upload in parts, of which `file` is the result."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Status
    file: FileObject | None


@dataclass(frozen=True, slots=True)
class Upload:
    """One upload. `bytes` is the size that its creator announced. `file_id` is set when it is completed."""

    id: str
    bytes: int
    filename: str
    project: str
    created_at: int
    expires_at: int
    ttl_s: int
    status: Status = "pending"
    file_id: str = ""
    unknown: dict[str, Any] = field(default_factory=dict, compare=False)  # of a newer version, and written again

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Upload:
        """Return a stored upload. Raises ValueError."""
        return _checked().validate_python(all_fields(cls, record))

    def to_object(self, file: FileEntry | None = None) -> UploadObject:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "filename": self.filename,
            "purpose": BATCH_PURPOSE,
            "status": self.status,
            "file": file.to_object() if file else None,
        }


@cache
def _checked() -> TypeAdapter[Upload]:
    return TypeAdapter(Upload)


class UploadStore:
    """The uploads of a state directory. Several gateways may use the same one."""

    def __init__(self, state_dir: Path, files: FileStore) -> None:
        self._root = state_dir.expanduser() / "uploads"
        self._files = files
        self._records = Records()

    def create(self, identity: str, size: int, filename: str, project: str, ttl_s: int) -> Upload:
        """Create an upload. Repeating it with the same identity of a request returns the same upload."""
        now_s = int(time.time())
        upload = Upload(f"{_UPLOAD}{identity.replace('-', '')}", size, filename, project, now_s, now_s + TTL_S, ttl_s)
        with storing():
            make_private_dir(self._folder(upload.id))
            if (existing := self._read(upload.id)) is not None:
                return existing
            self._write(upload)
            sync_dir(self._root)
        return upload

    def get(self, upload_id: str, key: ApiKey) -> Upload:
        """Return an upload that the key sees. Raises ApiError."""
        found = self._read(upload_id) if _UPLOAD_ID.fullmatch(upload_id) else None
        if found is None or not key.sees(found.project):
            raise not_found("upload", upload_id)
        return found

    def begin_part(self, upload: Upload) -> PartialFile:
        check_pending(upload)
        return PartialFile(self._folder(upload.id))

    def add_part(self, identity: str, upload: Upload, part: PartialFile) -> str:
        """Store a part, and return its id. Repeating it with the same identity is harmless. Raises ApiError."""
        part_id = f"{_PART}{identity.replace('-', '')}"
        with self._locked(upload) as current:
            check_pending(current)
            if (self._folder(upload.id) / part_id).exists():
                return part_id
            size = sum(path.stat().st_size for path in self._folder(upload.id).glob(f"{_PART}*"))
            # A part that was sent again is stored twice. Of more than that, the disk is protected.
            if size + part.bytes > 2 * upload.bytes:
                raise invalid("data", f"the parts are over the {upload.bytes:,} bytes that were announced")
            part.keep_as(self._folder(upload.id) / part_id)
        return part_id

    def complete(self, upload: Upload, part_ids: Sequence[str], md5: str | None) -> tuple[Upload, FileEntry]:
        """Assemble the file. Repeating it after a lost response returns the same file. Raises ApiError."""
        with self._locked(upload) as current:
            if current.status == "completed":
                file = self._files.get(current.file_id)
                if file is None:
                    raise conflict(f"the file of upload {upload.id} was deleted", "invalid_state")
                return current, file
            check_pending(current)
            parts = self._parts(current, part_ids)
            with self._files.begin() as target:
                digest = _append(parts, target, with_digest=md5 is not None)
                if md5 is not None and digest != md5.lower():
                    raise invalid("md5", f"the parts have the digest {digest}")
                file_id = file_id_of(upload.id.removeprefix(_UPLOAD))
                file = target.finish(file_id, upload.filename, BATCH_PURPOSE, upload.project, upload.ttl_s)
            completed = replace(current, status="completed", file_id=file.id)
            self._write(completed)
            self._remove_parts(upload)
        return completed, file

    def cancel(self, upload: Upload) -> Upload:
        """Raises ApiError. Repeating it is harmless."""
        with self._locked(upload) as current:
            if current.status != "cancelled":
                check_pending(current)
                current = replace(current, status="cancelled")
                self._write(current)
                self._remove_parts(upload)
        return current

    def sweep(self) -> int:
        """Delete uploads whose hour is over. Return how many were deleted."""
        count = 0
        for folder in self._root.glob("upload_*"):
            found = self._read(folder.name)
            # One that cannot be read may belong to a newer version. One without a record may just be created.
            is_left = found is None and not (folder / _RECORD).exists() and _age_s(folder) > TTL_S
            if is_left or (found is not None and time.time() >= found.expires_at):
                shutil.rmtree(folder, ignore_errors=True)
                count += 1
        return count

    def _parts(self, upload: Upload, part_ids: Sequence[str]) -> list[Path]:
        folder = self._folder(upload.id)
        if len(set(part_ids)) != len(part_ids):
            raise invalid("part_ids", "a part is listed more than once")
        paths = [folder / part_id for part_id in part_ids if _PART_ID.fullmatch(part_id)]
        if len(paths) != len(part_ids) or not all(path.exists() for path in paths):
            raise invalid("part_ids", f"upload {upload.id} has no such part")
        if (size := sum(path.stat().st_size for path in paths)) != upload.bytes:
            raise invalid("part_ids", f"the parts have {size:,} bytes, and {upload.bytes:,} were announced")
        return paths

    def _remove_parts(self, upload: Upload) -> None:
        for path in self._folder(upload.id).glob(f"{_PART}*"):
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self, upload: Upload) -> Iterator[Upload]:
        """Hold the upload's lock, also against other gateways, and yield the upload as it is now."""
        with storing():
            lock = wait_for_lock(self._folder(upload.id) / _LOCK)
            try:
                yield self._read(upload.id) or upload
            finally:
                os.close(lock)

    def _folder(self, upload_id: str) -> Path:
        return self._root / upload_id

    def _read(self, upload_id: str) -> Upload | None:
        found = self._records.read(self._folder(upload_id) / _RECORD, Upload.of_record)
        if found is None:
            return None
        is_late = found.status == "pending" and time.time() >= found.expires_at
        return replace(found, status="expired") if is_late else found

    def _write(self, upload: Upload) -> None:
        path = self._folder(upload.id) / _RECORD
        part = path.with_suffix(f".{uuid.uuid4().hex}")
        with open(part, "xb", opener=private_opener) as written:
            written.write(orjson.dumps(stored_fields(upload)))
            written.flush()
            os.fsync(written.fileno())
        part.replace(path)
        sync_dir(path.parent)


def _age_s(folder: Path) -> float:
    with suppress(OSError):
        return time.time() - folder.stat().st_mtime
    return 0.0


def check_pending(upload: Upload) -> None:
    """Raises ApiError."""
    if upload.status != "pending":
        raise conflict(f"upload {upload.id} is {upload.status}", "invalid_state")


def _append(parts: Sequence[Path], target: PartialFile, *, with_digest: bool) -> str:
    """Copy the parts to the file. Return its MD5 digest, which the client has computed, too; empty without."""
    digest = hashlib.md5(usedforsecurity=False) if with_digest else None
    for path in parts:
        with path.open("rb") as part:
            while piece := part.read(READ_BYTES):
                if digest is not None:
                    digest.update(piece)
                target.write(piece)
    return digest.hexdigest() if digest is not None else ""
