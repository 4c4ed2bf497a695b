"""A copy of an uploaded file in which a user has edited invalid lines. The uploaded file itself never changes."""

from __future__ import annotations

from collections.abc import Mapping

from mira_producer.gateway.context import Context
from mira_producer.gateway.files.file_entry import BATCH_PURPOSE, FileEntry
from mira_producer.gateway.http.limits import too_large
from mira_producer.jsonl.edited_copy import edited_lines
from mira_queue.contract.file_id import file_id_of

_BLOCK_BYTES = 1024 * 1024
# The copy is not compressed.
_COMPRESSED = (".gz", ".zst", ".zstd")


def store_edited(context: Context, file: FileEntry, texts: Mapping[int, str], identity: str) -> FileEntry:
    """Store the copy as a file of the same project, and return it. Storing it twice stores it once.

    Raises ApiError, InputError.
    """
    file_id = file_id_of(identity)
    stored = context.files.get(str(file_id))
    if stored is not None:
        return stored
    settings = context.settings
    with context.files.begin() as target:
        block = bytearray()
        for line in edited_lines(file.path, texts):
            block += line
            if target.bytes + len(block) > settings.max_file_bytes:
                raise too_large(settings.max_file_bytes)
            if len(block) >= _BLOCK_BYTES:
                target.write(bytes(block))
                block.clear()
        target.write(bytes(block))
        ttl_s = round(settings.file_ttl.total_seconds())
        return target.finish(file_id, _plain_name(file.filename), BATCH_PURPOSE, file.project, ttl_s)


def _plain_name(name: str) -> str:
    for ending in _COMPRESSED:
        name = name.removesuffix(ending)
    return name or "file"
