"""A batch: a file of requests that somebody else brings to its end. The object has OpenAI's fields and statuses.

Source: https://platform.openai.com/docs/api-reference/batch/object; what is ours stands in a field `mira`.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Self

import orjson

ENDPOINT = "/v1/chat/completions"
PREFIX = "batch_"


class BatchStatus(StrEnum):
    """Where a batch is. A paused one stays `in_progress`: `paused` says why."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What the submitter asked for. `deadline_s`: Unix time; 0: none. A budget's 0 is none, too."""

    on_account_error: str = "pause"
    deadline_s: int = 0
    dedupe: bool = False
    ordered: bool = False
    max_requests: int = 0
    max_tokens: int = 0


@dataclass(frozen=True, slots=True)
class LineError:
    """One thing wrong with the input. `line` counts from 1; None: it is the whole file."""

    message: str
    line: int | None = None
    param: str | None = None
    code: str = "invalid_request"


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. Times are Unix seconds. `done` and `failed` count lines; tokens are those of its answers."""

    id: str
    status: BatchStatus
    input_name: str
    place: str  # machine and directory of its files
    created_at: int
    options: BatchOptions = field(default_factory=BatchOptions)
    metadata: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)  # status -> when it came to it
    errors: tuple[LineError, ...] = ()
    total: int = 0
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unanswered_calls: int = 0
    paused: str = ""  # why nothing is sent; empty: it is not paused
    note: str = ""  # what it waits for, and how fast it goes, for people

    def moved(self, status: BatchStatus, now_s: int, **changes: Any) -> Self:
        """At another status, from now on."""
        return replace(self, status=status, stamps={**self.stamps, status.value: now_s}, **changes)

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        found: dict[str, Any] = orjson.loads(text)
        return replace(
            cls(**found),
            status=BatchStatus(found["status"]),
            options=BatchOptions(**found["options"]),
            errors=tuple(LineError(**each) for each in found["errors"]),
        )

    def to_object(self) -> dict[str, Any]:
        """The batch as OpenAI's clients know it."""
        files = self.total > 0
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": ENDPOINT,
            "errors": {"object": "list", "data": [asdict(each) for each in self.errors]} if self.errors else None,
            "input_file_id": self.input_name,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": f"{self.place}/output.jsonl" if files and self.answered else None,
            "error_file_id": f"{self.place}/errors.jsonl" if files and self.failed else None,
            "created_at": self.created_at,
            **{
                f"{status}_at": self.stamps.get(status)
                for status in BatchStatus
                if status is not BatchStatus.VALIDATING
            },
            "expires_at": self.options.deadline_s or None,
            "request_counts": {"total": self.total, "completed": self.answered, "failed": self.failed},
            "usage": {
                "input_tokens": self.prompt_tokens,
                "output_tokens": self.completion_tokens,
                "total_tokens": self.prompt_tokens + self.completion_tokens,
            },
            "metadata": self.metadata or None,
            "mira": {
                "paused": self.paused or None,
                "note": self.note or None,
                "unanswered_calls": self.unanswered_calls,
                "options": asdict(self.options),
            },
        }


def new_batch_id() -> str:
    return f"{PREFIX}{uuid.uuid4().hex}"


def is_batch_id(text: str) -> bool:
    """Whether an id names a batch and not a job."""
    return text.startswith(PREFIX)
