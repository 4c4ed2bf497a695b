"""Facts of an attempt, from which its spans are written when it is known that they are exported.

Most lines of files are not in the sample. Spans that are dropped at the end would cost as much as the rest of a job.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from opentelemetry.trace import Span

from mira_queue.contract.errors import RateLimited
from mira_queue.contract.outcome import Failure
from mira_queue.ledger.records import Lease
from mira_worker.decision import Decision, Defer, Finish
from mira_worker.transport import HttpResponse, NoResponse


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request: its begin and its end (ns since 1970), and its response."""

    began_ns: int
    ended_ns: int
    response: HttpResponse | NoResponse


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt of a job. `span` is set if it is exported, as soon as that is known."""

    lease: Lease
    began_ns: int = field(default_factory=time.time_ns)
    call_began_ns: int = 0
    request: HttpRequest | None = None
    decision: Decision | None = None
    span: Span | None = None


class CurrentAttempt(threading.local):
    """The attempt of the calling thread, or None."""

    attempt: Attempt | None = None


def error_code(decision: Decision | None) -> str:
    """Return the code of a failed attempt, or an empty string. A rate limit is no failure: the job waits."""
    match decision:
        case Finish(outcome=Failure(code=code)):
            return code
        case Defer(error=error) if not isinstance(error, RateLimited):
            return error.code
    return ""
