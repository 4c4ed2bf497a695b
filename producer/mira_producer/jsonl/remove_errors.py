"""Lines of a batch's files, for its owner: copies of them, and those that are to be tried again taken out."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.result_file import job_id_of
from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE
from mira_queue.contract.errors import ERROR_CODES

STANDARD_OUTPUT = Path("-")
FORGET_AT_ONCE = 1000
_STATUS = re.compile(r"[1-5](\d\d|[xX][xX])")
_CODES = ERROR_CODES | {EXPIRED_CODE, CANCELLED_CODE}


def complete_lines(path: Path) -> Iterator[bytes]:
    """Lines that are whole; the file may be growing, or not be there."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def copy_lines(source: Path, target: Path) -> int:
    """Copy complete lines; the target is replaced at once, whole. Returns how many. Raises InputError."""
    count = 0
    if target == STANDARD_OUTPUT:
        for line in complete_lines(source):
            sys.stdout.buffer.write(line)
            count += 1
        return count
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for line in complete_lines(source):
                file.write(line)
                count += 1
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return count


def take_out(path: Path, wanted: Callable[[dict[str, Any]], bool], forget: Callable[[list[str]], None]) -> int:
    """Remove the lines that are wanted elsewhere; the file is replaced at once. Returns how many lines went.

    `forget` is told the jobs that they came of, before they are gone.
    """
    count = 0
    job_ids: list[str] = []
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        for line in complete_lines(path):
            entry = orjson.loads(line)
            if not wanted(entry):
                file.write(line)
                continue
            count += 1
            job_ids.append(job_id_of(entry))
            if len(job_ids) == FORGET_AT_ONCE:
                forget(job_ids)
                job_ids = []
        file.flush()
        os.fsync(file.fileno())
    forget(job_ids)
    part.replace(path)
    return count


def check_statuses(statuses: Sequence[str]) -> None:
    """Whether these can stand in an error line: the word that is misspelt meets no line, ever. Raises InputError."""
    for each in statuses:
        if not _STATUS.fullmatch(each) and each not in _CODES:
            raise InputError(
                f"status: expected one such as 402, 5xx, or a code such as content_blocked, got {each[:40]!r}"
            )


def holds_status(path: Path, statuses: Sequence[str]) -> bool:
    """Whether a line of this error file has one of these."""
    wanted = has_status(statuses)
    return any(wanted(orjson.loads(line)) for line in complete_lines(path))


def has_status(statuses: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """Whether an error line has one of these: a status ("402"), a kind ("5xx"), or a code. None given: every line."""

    def wanted(line: dict[str, Any]) -> bool:
        status = str((line.get("response") or {}).get("status_code", ""))
        code = str((line.get("error") or {}).get("code", ""))
        return not statuses or any(
            each in (status, code) or (each.lower().endswith("xx") and status[:1] == each[:1]) for each in statuses
        )

    return wanted
