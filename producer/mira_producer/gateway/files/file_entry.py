"""One file of the HTTP API, whether it was uploaded or belongs to a batch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from mira_queue.contract.known_fields import known_fields

BATCH_PURPOSE, OUTPUT_PURPOSE = "batch", "batch_output"


class FileObject(TypedDict):
    """A file. `status` is always `processed`; `expires_at` is null if it does not expire by itself."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"]
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file. `path` has its content, of which the first `bytes` belong to it: answers may be growing.

    `expires_at` is 0 if it does not expire by itself. `project` is empty for files of the command line. Times are Unix
    seconds.
    """

    id: str
    path: Path
    bytes: int
    created_at: int
    filename: str
    purpose: str
    project: str
    expires_at: int = 0

    @classmethod
    def of_record(cls, an_id: str, path: Path, record: Mapping[str, Any]) -> FileEntry:
        """Return a stored file. Raises ValueError."""
        return _checked().validate_python({**known_fields(cls, record), "id": an_id, "path": path})

    @property
    def is_expired(self) -> bool:
        return bool(self.expires_at) and time.time() >= self.expires_at

    def to_object(self) -> FileObject:
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            # Deprecated, but required: `files.wait_for_processing` polls it.
            "status": "processed",
            "expires_at": self.expires_at or None,
        }


@cache
def _checked() -> TypeAdapter[FileEntry]:
    return TypeAdapter(FileEntry)
