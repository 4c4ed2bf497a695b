"""What is wrong with a batch's input, as its object lists it: a line's number, its field, and why."""

from __future__ import annotations

import re

from mira_queue.contract.batch import LineError

# Words of an InputError about a line.
_LINE = re.compile(r"line (\d+)(?:, (.+?))?: (.*)", re.DOTALL)
INVALID, DUPLICATE, NO_JSON, EMPTY = "invalid_request", "duplicate_custom_id", "invalid_json_line", "empty_file"


def line_errors(text: str, path: str, name: str) -> tuple[LineError, ...]:
    """The complaints of an InputError about the file at `path`; its codes are those of OpenAI's batches.

    `name` is what its owner calls the file: of our copy he knows nothing.
    """
    found = []
    for complaint in text.splitlines():
        # How many are wrong is for those who do not see the list.
        if complaint.endswith(": nothing was sent"):
            continue
        words = complaint.removeprefix(f"{path}, ").removeprefix(f"{path}: ").replace(path, name)
        if match := _LINE.fullmatch(words):
            number, field, reason = int(match[1]), match[2], match[3]
            found.append(LineError(reason, number, field, _code(field, reason)))
        else:
            found.append(LineError(words, code=EMPTY if words == "holds no requests" else INVALID))
    return tuple(found)


def _code(field: str | None, reason: str) -> str:
    if field == "custom_id" and reason.endswith(" too"):
        return DUPLICATE
    return NO_JSON if reason.startswith("no JSON") else INVALID
