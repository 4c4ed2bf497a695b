"""An input file as a stream of bytes, decompressed if it is compressed. Files of another kind are rejected here."""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from mira_producer.jsonl.errors import invalid_file
from mira_queue.contract.problem import UNREADABLE_FILE
from mira_queue.contract.unicode import is_unicode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP = b"\x1f\x8b"
# A frame of data, and the skippable frames with which some compressors begin.
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes([low]) + b"\x2a\x4d\x18" for low in range(0x50, 0x60)))
_BUFFER_BYTES = 128 * 1024
# The beginning of a file shows its kind.
_HEAD_BYTES = 4096
_BOM = b"\xef\xbb\xbf"
_UTF_16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive (or a spreadsheet)",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ": "compressed with xz",
    b"%PDF": "a PDF document",
    b"PAR1": "a Parquet file",
}


def check_file(path: Path) -> None:
    """Raises InvalidInput for a path that is not a file, or can be read only once."""
    _check_seekable(path)
    if path.is_dir():
        raise invalid_file(path, "is a directory: give a file with one JSON request per line")
    if not path.is_file():
        raise invalid_file(path, "no such file: give a file with one JSON request per line", UNREADABLE_FILE)
    if not is_unicode(str(path.absolute())):
        raise invalid_file(path, "its path is not UTF-8: rename it")


def _check_seekable(path: Path) -> None:
    # A run reads its input for the check, for the lines, and again when it resumes.
    is_standard_input = str(path) == "-"
    if is_standard_input or path.is_fifo() or path.is_char_device():
        named = Path("standard input") if is_standard_input else path
        raise invalid_file(named, "can be read only once: write it to a file, and give that file")


@contextmanager
def opened(path: Path) -> Iterator[io.BufferedReader]:
    """Open the bytes of a plain, gzip, or zstd file. Raises InvalidInput if it cannot be read or is not such text."""
    _check_seekable(path)
    try:
        with path.open("rb") as file, _decompressed(file) as stream:
            _check_kind(path, stream.peek(_HEAD_BYTES)[:_HEAD_BYTES])
            yield stream
    except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
        raise invalid_file(path, f"cannot be decompressed: {error}: compress it again", UNREADABLE_FILE) from None
    except OSError as error:
        raise invalid_file(path, f"cannot be read: {error.strerror}", UNREADABLE_FILE) from None


def _decompressed(file: io.BufferedReader) -> io.BufferedReader:
    head = file.peek(4)
    if head.startswith(_GZIP):
        # Both read bytes as a raw stream does, but have other types.
        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=file)), _BUFFER_BYTES)
    if head.startswith(_ZSTD):
        return io.BufferedReader(cast(io.RawIOBase, zstd.ZstdFile(file)), _BUFFER_BYTES)
    return file


def _check_kind(path: Path, head: bytes) -> None:
    for magic, kind in _OTHER_KINDS.items():
        if head.startswith(magic):
            raise invalid_file(path, f"is {kind}: give text with one JSON request per line, plain, gzip, or zstd")
    first = head.removeprefix(_BOM).lstrip().split(b"\n", 1)[0].rstrip()
    if head.startswith(_UTF_16_BOMS):
        raise invalid_file(path, "is UTF-16, not UTF-8: convert it: iconv -f UTF-16 -t UTF-8 FILE > NEW.jsonl")
    if b"\0" in first:
        raise invalid_file(path, "is not text in UTF-8: give a file with one JSON request per line")
    if first.startswith(b"["):
        raise invalid_file(path, "is a JSON array, not one request per line: convert it: jq -c '.[]' FILE > NEW.jsonl")
    if first.startswith(b"{") and first.endswith((b"{", b"[", b",", b":")) and b"\n" in head.strip():
        raise invalid_file(
            path, "holds JSON over several lines, not one request per line: convert it: jq -c . FILE > NEW.jsonl"
        )
