"""Errors of the files of a batch, as values with fields.

    InputError               a file or an option cannot be used
    ├── InvalidInput         the input holds invalid requests, or is not a file of requests: lists the problems
    ├── InputChanged         the input changed after it was checked
    ├── LinesChanged         lines have another request than the one that was answered
    └── ResultFileError      an output or error file cannot be used
        ├── FileDamaged      it holds a line that does not belong to the input
        ├── FileReplaced     another program changed it while it was written
        └── StorageFull      its storage is full, or fails

The command line prints them, and the supervisor pauses a batch or lets it fail because of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mira_queue.contract.errors import MiraQueueError
from mira_queue.contract.problem import INVALID_FILE, Problem

# Listed for one file. A batch's object holds them (about 130 bytes each), and supervisors read all objects of a queue
# twice per second.
MAX_PROBLEMS = 1_000


class InputError(MiraQueueError):
    """A file or an option cannot be used. `brief` is the message without advice on how to run the command again."""

    def __init__(self, brief: str, advice: str = "") -> None:
        super().__init__(f"{brief}: {advice}" if advice else brief)
        self.brief = brief


class InvalidInput(InputError):
    """The input is not a file of valid requests.

    `problems` holds at most MAX_PROBLEMS of the `count` problems. `lines` is the number of checked lines, or 0 if the
    file as a whole is wrong.
    """

    def __init__(self, problems: Sequence[Problem], count: int, lines: int = 0) -> None:
        super().__init__(f"{problems[0]}{f' (and {count - 1:,} more)' if count > 1 else ''}")
        self.problems = tuple(problems)
        self.count = count
        self.lines = lines


class InputChanged(InputError):
    """The file at `path` no longer holds the lines that were checked."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} has changed during the run", "every answer is saved; run the same command again")
        self.path = path


class LinesChanged(InputError):
    """`count` lines of the input at `path` have another request than the one that was answered.

    `numbers` are the first of them. The requests of `moved` answers belong to other lines now.
    """

    def __init__(self, path: Path, numbers: Sequence[int], count: int, moved: int) -> None:
        what = "1 answered line has" if count == 1 else f"{count:,} answered lines have"
        more = f" and {count - len(numbers):,} more" if count > len(numbers) else ""
        shifted = f"; {moved:,} moved: give each line a custom_id, or add new lines at the end" if moved else ""
        brief = f"{path}: {what} changed (line {', '.join(map(str, numbers))}{more}{shifted})"
        choice = "--changed rerun (send them again, and replace their answers) or --changed keep (keep their answers)"
        super().__init__(brief, f"nothing was sent: add {choice}, or name another output file")
        # A batch has no other output file.
        self.brief = f"{brief}: resume it with {choice}"
        self.path = path
        self.numbers = tuple(numbers)
        self.count = count
        self.moved = moved


class ResultFileError(InputError):
    """An output or error file cannot be used."""


class FileDamaged(ResultFileError):
    """Line `line` of the output or error file at `path` does not belong to the input. `reason` says why."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        super().__init__(f"{path}, line {line}: {reason}", "name another file, or move this one away")
        self.path = path
        self.line = line
        self.reason = reason


class FileReplaced(ResultFileError):
    """Another program changed, replaced, or removed the file at `path` while it was written.

    `saved` is the file that has every line that was written; None if the other program changed the file itself, which
    has `size` bytes now instead of the `written` ones.
    """

    def __init__(self, path: Path, saved: Path | None, *, size: int = 0, written: int = 0) -> None:
        if saved is None:
            brief = (
                f"{path}: another program changed it while it was written ({size:,} bytes instead of {written:,}). "
                "Lines that it has lost are sent, and billed, again, except for those that were written last"
            )
            advice = "if you have a copy with those lines, put it back; then "
        elif saved == path:
            brief, advice = f"{path}: it was removed or renamed while it was written; it is there again", ""
        else:
            brief = f"{path}: another program replaced it while it was written; {saved} has every line that was written"
            advice = f"to use these lines, move {saved} to {path}; then "
        super().__init__(brief, f"{advice}run the same command again")
        self.path = path
        self.saved = saved


class StorageFull(ResultFileError):
    """The storage of the file at `path` is full or fails. `reason` is the system's message. No written line is lost."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}", "nothing is lost; free some space and run the same command again")
        self.path = path
        self.reason = reason


class Problems:
    """Problems of one file: the first `limit` of them, and how many there are."""

    def __init__(self, limit: int = MAX_PROBLEMS) -> None:
        self._limit = limit
        self.first: list[Problem] = []
        self.count = 0

    def add(self, problem: Problem) -> None:
        self.count += 1
        if len(self.first) < self._limit:
            self.first.append(problem)


def invalid_file(path: Path, reason: str, code: str = INVALID_FILE, line: int | None = None) -> InvalidInput:
    """Return the error for a file that cannot be checked line by line."""
    return InvalidInput([Problem(str(path), line, None, code, reason)], 1)
