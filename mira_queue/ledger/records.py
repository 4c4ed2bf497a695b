"""Values that go into and come out of the ledger."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from mira_queue.contract.call_history import NO_HISTORY, CallHistory
from mira_queue.contract.job_options import NO_OPTIONS, JobOptions, Priority
from mira_queue.contract.names import Lane
from mira_queue.contract.project_limits import NO_LIMITS, JobPrice, ProjectLimits
from mira_queue.contract.request import ChatRequest
from mira_queue.contract.webhook import ENDPOINTS_ONLY


@dataclass(frozen=True, slots=True)
class NewJob:
    """A request to accept, optionally with an idempotency key and the group that collects finished jobs.

    `lane` is the lane of its message. `time_left` is the time until its deadline, or None without one: the clocks of
    the producer and of the ledger may differ. A job with a `delay` waits for so long; then rescue sends its message.
    `project` is the project of the gateway that it belongs to, and `view` is what the gateway's object of the job shows
    in addition to its status and its outcome. `webhook` receives the event of its end: see WebhookEvent. Without
    it, there is no event. `traceparent` is the W3C trace context of the span that sent it, if traces are on.
    `limits` are those of its project, and `price` is what its calls cost, if that is known.
    """

    request: ChatRequest
    id: str
    key: str = ""
    group: str = ""
    lane: Lane = Lane.NORMAL
    time_left: timedelta | None = None
    pauses: bool = False
    delay: timedelta = timedelta(0)
    priority: Priority = Priority.NORMAL
    metadata: Mapping[str, str] = field(default_factory=dict)
    project: str = ""
    view: str = ""
    webhook: str = ""
    traceparent: str = ""
    limits: ProjectLimits = NO_LIMITS
    price: JobPrice | None = None

    @classmethod
    def single(
        cls,
        request: ChatRequest,
        key: str = "",
        group: str = "",
        options: JobOptions = NO_OPTIONS,
        *,
        project: str = "",
        view: str = "",
        is_announced: bool = False,
    ) -> NewJob:
        """Return a single job with the options that a user gave.

        If it is announced, the endpoints of its project receive its event, too.
        """
        return cls(
            request,
            new_job_id(),
            key,
            group,
            options.priority.lane,
            options.time_left,
            delay=options.delay,
            priority=options.priority,
            metadata=options.metadata,
            project=project,
            view=view,
            webhook=options.webhook or (ENDPOINTS_ONLY if is_announced else ""),
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job of a request. `is_new` is False if the idempotency key already had one.

    `is_due` is False if it has a delay: rescue sends its message.
    """

    id: str
    is_new: bool
    is_due: bool = True


@dataclass(frozen=True, slots=True)
class Lease:
    """A claimed job. The holder may call the API and store the outcome, as long as it extends the lease in time.

    `time_left` is the time until the deadline of a single job, when it was claimed. None means that it has none.
    """

    job_id: str
    epoch: int
    body: bytes
    attempts: int = 0
    crashes: int = 0
    unanswered_calls: int = 0
    key: str = ""
    group: str = ""
    history: CallHistory = NO_HISTORY
    account: str = ""
    time_left: timedelta | None = None
    project: str = ""
    is_low: bool = False
    traceparent: str = ""

    @property
    def lane(self) -> Lane:
        """Lane of the job's message when it returns to the queue: it has waited already, unless its priority is low."""
        return Lane.LOW if self.is_low else Lane.FIRST


@dataclass(frozen=True, slots=True)
class DecidedLease:
    """A claimed job whose outcome is recorded: its worker crashed before the result backend had it."""

    lease: Lease
    outcome: bytes


@dataclass(frozen=True, slots=True)
class LostCalls:
    """Cost of a job that is deleted: calls that may have been billed, and tokens of unusable responses."""

    calls: int = 0
    usage: Mapping[str, int] = field(default_factory=dict)


Why = Literal["leased", "final", "missing", "early", "held", "foreign"]


@dataclass(frozen=True, slots=True)
class NothingToDo:
    """Reason why a message needs no work. `wait_ms` is set if it came before its job was due."""

    why: Why
    wait_ms: int = 0


def new_job_id() -> str:
    return str(uuid.uuid4())
