"""A multipart body, parsed from the stream straight to disk: its fields in any order, and one file.

Memory stays flat: pieces are collected up to BLOCK_BYTES, and parsed and written in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated

from pydantic import WithJsonSchema
from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from mira_producer.gateway.files.file_store import PartialFile
from mira_producer.gateway.http.errors import ApiError, invalid
from mira_producer.gateway.http.limits import body_pieces, too_large
from mira_producer.gateway.http.threads import in_thread
from mira_queue.contract.problem import MISSING_PARAMETER, UNKNOWN_PARAMETER
from mira_queue.contract.unicode import printable

BLOCK_BYTES = 1024 * 1024
MAX_FIELD_BYTES = 64 * 1024
MAX_FIELDS = 32
MAX_NAME_CHARS = 255
# Boundaries, headers of parts, and fields.
OVERHEAD_BYTES = 1024 * 1024
# The file of a form, as the description of the API has it.
FormFile = Annotated[bytes, WithJsonSchema({"type": "string", "format": "binary"})]


class Form:
    """A form that is being received. `file_field` is the name of its file, which goes to `target`.

    `check` gets the fields when the file begins, as far as they have arrived, and when the form is complete. It raises
    ApiError: a wrong field that comes first saves the upload.
    """

    def __init__(
        self, file_field: str, target: PartialFile, max_file_bytes: int, check: Callable[[Mapping[str, str]], None]
    ) -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._file_field = file_field
        self._target = target
        self._max_file_bytes = max_file_bytes
        self._check = check
        self._headers: dict[bytes, bytes] = {}
        self._header = bytearray()
        self._value = bytearray()
        self._name = ""
        self._is_file = self._is_complete = False

    async def receive(self, request: Request) -> None:
        """Read the whole body. Raises ApiError."""
        parser = self._parser(request.headers.get("content-type", ""))
        feeding: asyncio.Future[None] | None = None
        try:
            async for block in _blocks(request, self._max_file_bytes + OVERHEAD_BYTES):
                if feeding is not None:
                    await feeding
                # The next block is received while this one is written.
                feeding = asyncio.ensure_future(in_thread(_feed, parser, block))
            if feeding is not None:
                await feeding
        finally:
            # Also if the client has gone: the caller is going to close the file.
            if feeding is not None:
                await asyncio.wait([feeding])
        if not self._is_complete:
            raise invalid(None, "the multipart body ends before its last boundary", "invalid_multipart")
        if self.filename is None:
            raise invalid(self._file_field, "this parameter is required, as a file", MISSING_PARAMETER)
        self._check(self.fields)

    def _parser(self, content_type: str) -> MultipartParser:
        kind, options = parse_options_header(content_type)
        if kind != b"multipart/form-data" or not options.get(b"boundary"):
            raise ApiError(415, "expected the content type multipart/form-data", code="unsupported_media_type")
        try:
            return MultipartParser(
                options[b"boundary"],
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._add_header_name,
                    "on_header_value": self._add_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._open,
                    "on_part_data": self._add,
                    "on_part_end": self._close,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise _malformed(error) from None

    def _begin(self) -> None:
        self._headers.clear()
        self._name, self._is_file = "", False

    def _add_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _add_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[bytes(self._header).lower()] = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = _text(options.get(b"name", b""))
        self._is_file = self._name == self._file_field
        if self._is_file:
            if self.filename is not None:
                raise invalid(self._file_field, "more than one file")
            self.filename = safe_file_name(_text(options.get(b"filename", b"")))
            self._check(self.fields)
        elif self._name in self.fields or len(self.fields) >= MAX_FIELDS:
            raise invalid(self._name[:80], "given more than once, or too many fields")

    def _add(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            if self._target.bytes + end - start > self._max_file_bytes:
                raise too_large(self._max_file_bytes)
            self._target.write(memoryview(data)[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise invalid(self._name[:80], f"over the limit of {MAX_FIELD_BYTES:,} bytes")

    def _close(self) -> None:
        if not self._is_file:
            self.fields[self._name] = _text(bytes(self._value))
            self._value.clear()

    def _end(self) -> None:
        self._is_complete = True


def check_fields(fields: Mapping[str, str], known: frozenset[str]) -> None:
    """Raises ApiError for a field that does not exist."""
    if unknown := sorted(fields.keys() - known):
        raise invalid(unknown[0][:80], "no such parameter", UNKNOWN_PARAMETER)


async def _blocks(request: Request, max_bytes: int) -> AsyncIterator[list[bytes]]:
    pieces: list[bytes] = []
    size = 0
    async for piece in body_pieces(request, max_bytes):
        pieces.append(piece)
        size += len(piece)
        if size >= BLOCK_BYTES:
            yield pieces
            pieces, size = [], 0
    yield pieces


def _feed(parser: MultipartParser, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            parser.write(piece)
    except FormParserError as error:
        raise _malformed(error) from None


def _malformed(error: FormParserError) -> ApiError:
    return invalid(None, f"malformed multipart body: {str(error)[:200]}", "invalid_multipart")


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def safe_file_name(text: str) -> str:
    """Return the last part of a path, as a name that is safe to show. It becomes part of no path of ours."""
    name = printable(text.replace("\\", "/").rpartition("/")[2]).replace("\n", " ").replace("\t", " ")
    return name[:MAX_NAME_CHARS] or "file"
