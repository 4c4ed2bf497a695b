"""One thing that is wrong with an input file, as a value: the command line shows it, and a batch's object lists it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Codes of OpenAI's batches.
INVALID_JSON_LINE = "invalid_json_line"
DUPLICATE_CUSTOM_ID = "duplicate_custom_id"
MISSING_PARAMETER = "missing_required_parameter"
UNKNOWN_PARAMETER = "unknown_parameter"
INVALID_METHOD = "invalid_method"
INVALID_URL = "invalid_url"
EMPTY_FILE = "empty_file"
# Our own codes.
INVALID_REQUEST = "invalid_request"  # a field has a value that the API would reject
INVALID_FILE = "invalid_file"  # the file is not text with one JSON request per line
UNREADABLE_FILE = "unreadable_file"  # the file is missing, cannot be opened, or cannot be decompressed
LINE_TOO_LONG = "line_too_long"
MODEL_WITHOUT_PRICE = "model_without_price"


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of the file at `path`. `line` counts from 1 and is None for the whole file.

    `field` is the path of a field inside the line, such as `body.messages[0].content`, or None for the whole line.
    """

    path: str = ""
    line: int | None = None
    field: str | None = None
    code: str = INVALID_REQUEST
    reason: str = ""

    def __str__(self) -> str:
        where = [self.path, *([f"line {self.line}"] if self.line else []), *([self.field] if self.field else [])]
        return f"{', '.join(where)}: {self.reason}"

    def to_object(self) -> dict[str, Any]:
        """Return the problem as an entry of `errors.data` in OpenAI's batch object."""
        return {"code": self.code, "message": self.reason, "param": self.field, "line": self.line}
