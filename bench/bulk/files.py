"""Write input files of any length, and count lines."""

from __future__ import annotations

from pathlib import Path

import orjson

from bench.bulk.stage import body

LINES_AT_ONCE = 10_000


def write_input(path: Path, lines: int) -> Path:
    """Write `lines` lines in the batch format, with short prompts."""
    with path.open("wb") as file:
        for start in range(0, lines, LINES_AT_ONCE):
            file.writelines(map(_line, range(start, min(lines, start + LINES_AT_ONCE))))
    return path


def count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def _line(number: int) -> bytes:
    entry = {
        "custom_id": f"line-{number}",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {"model": "mira", **body(number), "max_tokens": 100},
    }
    return orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
