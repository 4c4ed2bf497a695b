"""Publishes the chunks of a streamed answer while they arrive, for the clients that wait for this job."""

from __future__ import annotations

import re

import orjson

from mira_queue.contract.errors import QueueUnavailable
from mira_queue.ledger.ledger import Ledger
from mira_queue.ledger.records import Lease

_LINE_END = re.compile(rb"\r\n|\n|\r")
# A line that is longer than this is not a chunk that a client could show in time.
_MAX_LINE_BYTES = 1024 * 1024


class ChunkPublisher:
    """Publisher of one call. It gets the bytes of the response, in pieces of any size.

    The outcome does not depend on it: if the ledger cannot be reached, the rest is not published.
    """

    def __init__(self, ledger: Ledger, lease: Lease) -> None:
        self._ledger = ledger
        self._lease = lease
        self._rest = b""
        self._is_ended = False

    def __call__(self, piece: bytes) -> None:
        if self._is_ended:
            return
        *lines, self._rest = _LINE_END.split(self._rest + piece)
        chunks = []
        for line in lines:
            name, _, data = line.partition(b":")
            if name == b"data" and (data := data.strip()):
                if not _is_chunk(data):
                    self._is_ended = True
                    break
                chunks.append(data)
        self._is_ended |= len(self._rest) > _MAX_LINE_BYTES
        if chunks:
            try:
                self._is_ended |= not self._ledger.publish_chunks(self._lease, chunks)
            except QueueUnavailable:
                self._is_ended = True


def _is_chunk(data: bytes) -> bool:
    """Return False for the end marker, for an error, and for what is no chunk: the outcome says what it means."""
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return isinstance(found, dict) and isinstance(found.get("choices"), list) and not found.get("error")
