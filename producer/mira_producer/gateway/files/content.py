"""The content of a file as a response: streamed, as a whole or a range of it."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mira_producer.gateway.files.file_entry import FileEntry
from mira_producer.gateway.http.errors import ApiError, not_found
from mira_producer.gateway.http.threads import in_thread

READ_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


async def content_response(request: Request, file: FileEntry) -> Response:
    """Return the content. It is opened here: a file that is replaced meanwhile is still read to its end."""
    try:
        fd = await in_thread(os.open, file.path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise not_found("file", file.id) from None
    try:
        start, end = _range(request, file.bytes)
    except ApiError:
        os.close(fd)
        raise
    headers = {
        "accept-ranges": "bytes",
        "content-length": str(end - start),
        # Ids and names come from outside: the name is in the file object only.
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
    }
    is_partial = (start, end) != (0, file.bytes)
    if is_partial:
        headers["content-range"] = f"bytes {start}-{end - 1}/{file.bytes}"
    return _Content(fd, start, end, 206 if is_partial else 200, headers)


class _Content(StreamingResponse):
    """Streams a part of an open file, and closes it when the response has ended, however that happens."""

    def __init__(self, fd: int, start: int, end: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(_pieces(fd, start, end), status, headers, media_type="application/octet-stream")
        self._fd = fd

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._fd)


async def _pieces(fd: int, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        piece = await in_thread(os.pread, fd, min(READ_BYTES, end - start), start)
        if not piece:
            # Another program has cut the file: the response is shorter than announced, which the client notices.
            return
        start += len(piece)
        yield piece


def _range(request: Request, size: int) -> tuple[int, int]:
    """Return the first byte, and the one after the last. Raises ApiError (416).

    Several ranges, other units, and `If-Range`, whose validators we do not have, get the whole file.
    """
    found = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if found is None or "if-range" in request.headers or found.groups() == ("", ""):
        return 0, size
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
    if start >= end:
        raise ApiError(
            416,
            f"the file has {size:,} bytes, and none of them is in this range",
            code="invalid_range",
            headers={"content-range": f"bytes */{size}"},
        )
    return start, end
