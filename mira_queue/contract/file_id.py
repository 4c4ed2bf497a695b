"""Ids of files of the HTTP API. They sort in the order in which the files were created.

A file of a batch has no record of its own: its id follows from that of the batch, and stays the same.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "file-"
_ID = re.compile(r"file-([0-9a-f]{12})([uioe])([0-9a-z_]{1,64})")


class FileKind(StrEnum):
    """Origin of a file: an upload, or a batch's input, answers, or errors."""

    UPLOAD = "u"
    INPUT = "i"
    OUTPUT = "o"
    ERRORS = "e"


@dataclass(frozen=True, slots=True)
class FileId:
    """The parts of an id. `rest` is random, or the id of the batch without its prefix."""

    created_ms: int
    kind: FileKind
    rest: str

    def __str__(self) -> str:
        return f"{PREFIX}{self.created_ms:012x}{self.kind}{self.rest}"


def file_id_of(identity: str) -> FileId:
    """Return the id of the file that a request creates, given the request's identity: a UUID of version 7."""
    digits = identity.replace("-", "")
    return FileId(int(digits[:12], 16), FileKind.UPLOAD, digits[12:])


def identity_of_file(text: str) -> str:
    """Return the identity of the request that has created an uploaded file, given the file's id."""
    found = parse_file_id(text)
    return "" if found is None else str(uuid.UUID(f"{found.created_ms:012x}{found.rest}"))


def parse_file_id(text: str) -> FileId | None:
    """Return the parts of an id, or None if it is not an id of a file. Nothing else may become part of a path."""
    found = _ID.fullmatch(text)
    return FileId(int(found[1], 16), FileKind(found[2]), found[3]) if found else None
