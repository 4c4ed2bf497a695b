"""OpenAI's batch object, as the API describes it. `mira_queue.contract.batch` writes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from mira_producer.gateway.jobs.usage_object import UsageObject
from mira_queue.contract.batch import BatchOptions, BatchStatus, PausedBy

_ADMIN = "Only for keys with the scope admin."


class LineError(TypedDict):
    """A problem of a line of the input, or of the input."""

    code: str
    message: str
    param: str | None
    line: int | None


class LineErrors(TypedDict):
    """Errors of an input that was not run."""

    object: Literal["list"]
    data: list[LineError]


class RequestCounts(TypedDict):
    """Lines of the batch."""

    total: int
    completed: int
    failed: int


class LinesPerSecond(TypedDict):
    """Rate of a batch."""

    now: float
    average: float


class BatchDetails(TypedDict):
    """Fields of mira-queue: why a batch is paused, what it waits for and until when, the time left, and the cost."""

    paused: str | None
    paused_by: PausedBy | None
    held_models: list[str]
    waiting_for: str | None
    server_message: str | None
    waiting_until: int | None
    failed_by_code: dict[str, int]
    cost: str | None
    currency: str | None
    answers_without_price: int
    answers_without_usage: int
    lines_per_second: LinesPerSecond | None
    seconds_left: float | None
    unanswered_calls: int
    errors_left_out: int
    account: str | None
    input_name: str
    files: NotRequired[Annotated[str, Field(description=_ADMIN)]]
    output: NotRequired[Annotated[str | None, Field(description=_ADMIN)]]
    errors: NotRequired[Annotated[str | None, Field(description=_ADMIN)]]
    updated_at: int | None
    options: BatchOptions
    verified: Annotated[bool | None, Field(description="null: it was not verified since its files have changed.")]


class BatchObject(TypedDict):
    """A batch. Times are Unix seconds."""

    id: str
    object: Literal["batch"]
    endpoint: str
    model: str | None
    errors: LineErrors | None
    input_file_id: str
    completion_window: str
    status: BatchStatus
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    expires_at: int | None
    request_counts: RequestCounts
    usage: UsageObject
    metadata: dict[str, str] | None
    mira: BatchDetails


class LineProblems(TypedDict):
    """Lines with one kind of problem, and the first of them."""

    count: int
    examples: list[Any]


class VerificationObject(TypedDict):
    """Comparison of a batch's files: `complete` if every line has exactly one answer or error."""

    object: Literal["batch.verification"]
    batch_id: str
    complete: bool
    lines: int
    answered: int
    failed: int
    missing: LineProblems
    duplicated: LineProblems
    unknown: LineProblems
    invalid: LineProblems
    changed: LineProblems
    moved: int
    compared_by_id: int
