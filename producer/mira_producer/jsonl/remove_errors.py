"""Lines of a batch's files for a user: copies, and the removal of errors whose lines will run again."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from mira_producer.jsonl.errors import InputError
from mira_producer.jsonl.result_file import ResultFile
from mira_producer.jsonl.result_line import job_id_of, part_of
from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE
from mira_queue.contract.errors import ERROR_CODES
from mira_queue.contract.unicode import printable_json
from mira_queue.runtime.private_files import output_opener

STANDARD_OUTPUT = Path("-")
_STATUS = re.compile(r"[1-5](\d\d|[xX][xX])")
_CODES = ERROR_CODES | {EXPIRED_CODE, CANCELLED_CODE}


def complete_lines(path: Path) -> Iterator[bytes]:
    """Yield the complete lines of a file, which may be growing, or not exist."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            yield line


def copy_lines(source: Path, target: Path) -> int:
    """Copy complete lines, and return their number. The target is replaced in one step. Raises InputError."""
    if target == STANDARD_OUTPUT:
        lines = complete_lines(source)
        if sys.stdout.isatty():
            lines = (printable_json(line.decode()).encode() for line in lines)
        return _copy(lines, sys.stdout.buffer)
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb", opener=output_opener) as file:
            count = _copy(complete_lines(source), file)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{target}: cannot be written: {error.strerror}") from None
    return count


def _copy(lines: Iterable[bytes], file: BinaryIO) -> int:
    return sum(1 for line in lines if file.write(line))


def remove_errors(path: Path, wanted: Callable[[dict[str, Any]], bool], delete: Callable[[list[str]], None]) -> int:
    """Remove error lines that will run again. Return their number. Raises ResultFileError.

    `delete` gets the IDs of their jobs before the file changes.
    """
    with closing(ResultFile(path)) as file:
        return file.remove(wanted, lambda entries: delete([job_id for each in entries if (job_id := job_id_of(each))]))


def check_statuses(statuses: Sequence[str]) -> None:
    """Raises InputError for a status that no error line can have, such as a misspelled one."""
    for each in statuses:
        if not _STATUS.fullmatch(each) and each not in _CODES:
            raise InputError(
                f"status: expected a status such as 402 or 5xx, or a code such as content_blocked, got {each[:40]!r}"
            )


def holds_status(path: Path, statuses: Sequence[str]) -> bool:
    """Return True if a line of this error file has one of these statuses."""
    wanted = has_status(statuses)
    return any(wanted(orjson.loads(line)) for line in complete_lines(path))


def has_status(statuses: Sequence[str]) -> Callable[[dict[str, Any]], bool]:
    """Return a test for error lines: True if a line has one of these statuses, such as 402, 5xx, or a code.

    Without statuses, every line passes.
    """

    def wanted(line: dict[str, Any]) -> bool:
        status = str(part_of(line, "response").get("status_code", ""))
        code = str(part_of(line, "error").get("code", ""))
        return not statuses or any(
            each in (status, code) or (each.lower().endswith("xx") and status[:1] == each[:1]) for each in statuses
        )

    return wanted
