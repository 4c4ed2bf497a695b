"""Digest of a body that passes by. Two requests with the same digest ask for the same thing."""

from __future__ import annotations

import asyncio
import hashlib

from python_multipart.multipart import parse_options_header

from mira_producer.gateway.http.threads import in_thread

# A body up to this size is hashed in the event loop, and a larger one in a thread, while the handler writes it.
BLOCK_BYTES = 1024 * 1024


class BodyDigest:
    """SHA-256 of a path and a body. An SDK chooses another multipart boundary for a retry: boundaries are left out."""

    def __init__(self, path: str, content_type: str) -> None:
        self._hash = hashlib.sha256(path.encode(errors="surrogatepass") + b"\0")
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary") if kind == b"multipart/form-data" else None
        self._delimiter = b"--" + boundary if boundary else b""
        self._rest = b""
        self._pieces: list[bytes] = []
        self._size = 0
        self._hashing: asyncio.Future[None] | None = None

    async def add(self, piece: bytes) -> None:
        """Add a piece. It waits for the block before the last one, so that memory stays flat."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= BLOCK_BYTES:
            await self._hashed()
            self._hashing = asyncio.ensure_future(in_thread(self._update, self._taken()))

    async def hexdigest(self) -> str:
        """Return the digest of the complete body."""
        await self._hashed()
        self._update(self._taken())
        self._hash.update(self._rest)
        return self._hash.hexdigest()

    async def _hashed(self) -> None:
        if self._hashing is not None:
            await self._hashing

    def _taken(self) -> bytes:
        block = b"".join(self._pieces)
        self._pieces, self._size = [], 0
        return block

    def _update(self, block: bytes) -> None:
        if self._delimiter:
            block = (self._rest + block).replace(self._delimiter, b"\0")
            # A boundary may begin in this block and end in the next one.
            cut = max(0, len(block) - len(self._delimiter) + 1)
            block, self._rest = block[:cut], block[cut:]
        self._hash.update(block)
