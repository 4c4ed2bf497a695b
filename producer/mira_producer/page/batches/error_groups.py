"""The failed lines of a batch by code, each with an example, its cause, and what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mira_producer.report.recorder import Example
from mira_queue.contract.batch import CANCELLED_CODE, EXPIRED_CODE, Batch
from mira_queue.contract.errors import ERROR_CODES, Cause, error_for_code

# As the counts of a batch have it: `server_error (503)`, `unreachable`.
_COUNTED = re.compile(r"(.*?)(?: \((\d{3})\))?")
_ADVICE = {
    Cause.JOB: "The request of the line has to change: another retry gets the same error.",
    Cause.ACCOUNT: "Fix the account (its balance, plan, or key), and retry the lines.",
    Cause.SERVICE: "The service failed. Retry the lines later.",
}
_ADVICE_OF_CODE = {
    EXPIRED_CODE: "The deadline passed before the line was sent. A retry runs it without a deadline.",
    CANCELLED_CODE: "The batch was cancelled before the line was sent.",
}
_RETRYABLE = "A retry can succeed."


@dataclass(slots=True)
class ErrorGroup:
    """Lines with one code. `example` is the custom_id of one of them, and `message` is what the server said to it."""

    code: str
    count: int = 0
    statuses: tuple[str, ...] = ()
    example: str = ""
    message: str = ""
    advice: str = ""

    @property
    def can_retry(self) -> bool:
        return self.code in ERROR_CODES or self.code in _ADVICE_OF_CODE


def error_groups(batch: Batch, samples: Mapping[str, Sequence[Example]]) -> list[ErrorGroup]:
    """Return the groups, the largest first. `samples` has examples for each counted code."""
    groups: dict[str, ErrorGroup] = {}
    for counted, count in batch.codes.items():
        found = _COUNTED.fullmatch(counted)
        code, status = (found[1], found[2]) if found else (counted, None)
        group = groups.setdefault(code, ErrorGroup(code, advice=_advice(code)))
        group.count += count
        if status:
            group.statuses += (status,)
        if not group.example and (examples := samples.get(counted)):
            group.example, group.message = examples[0].custom_id, examples[0].detail
    return sorted((each for each in groups.values() if each.count > 0), key=lambda each: -each.count)


def _advice(code: str) -> str:
    if code in _ADVICE_OF_CODE:
        return _ADVICE_OF_CODE[code]
    if code not in ERROR_CODES:
        return ""
    error = error_for_code(code)
    return _RETRYABLE if error.cause is Cause.JOB and error.retryable else _ADVICE[error.cause]
