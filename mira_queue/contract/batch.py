"""A batch: a file of requests, which a supervisor runs. The object has the fields and statuses of OpenAI's Batch API.

Source: https://platform.openai.com/docs/api-reference/batch/object; our own fields are in its field `mira`.
"""

from __future__ import annotations

import math
import uuid
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import orjson
from pydantic import TypeAdapter

from mira_queue.contract.file_id import FileId, FileKind
from mira_queue.contract.known_fields import UNKNOWN, unknown_fields
from mira_queue.contract.problem import Problem

ENDPOINT = "/v1/chat/completions"
PREFIX = "batch_"
SIMULATED_PREFIX = f"{PREFIX}simulated_"
# Errors of lines that were never run.
EXPIRED_CODE, CANCELLED_CODE = "batch_expired", "batch_cancelled"


class BatchStatus(StrEnum):
    """Status of a batch. A paused one stays `in_progress`, and `paused` says why."""

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

_ENDS = frozenset({*_FINAL, BatchStatus.FINALIZING, BatchStatus.CANCELLING})


# On an error that every line would get: pause, and keep the lines for later; or write one error per line.
OnAccountError = Literal["pause", "fail"]
# On lines whose request has changed since they were answered: stop (""), run them again, or keep their answers.
OnChanged = Literal["", "rerun", "keep"]
# Why a batch is paused: a command, the account, the budget, its files, the end of a run's process (by Ctrl-C, or by a
# crash), or the loss of the server's data.
PausedBy = Literal["", "owner", "account", "budget", "files", "interrupt", "process", "lost"]
# What jobs, or a batch, wait for.
Kind = Literal["", "limit", "learning", "faults", "server", "worker", "retry", "paused", "supervisor"]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """Options that a user gave to `run` or `submit`.

    `deadline_s` is a Unix time. The limits of the budget include what earlier runs of the files used. `max_cost` is
    text, because that is exact, in the currency of the price table. 0 and "" mean that there is no deadline, no limit.
    """

    on_account_error: OnAccountError = "pause"
    deadline_s: int = 0
    dedupe: bool = False
    ordered: bool = False
    max_requests: int = 0
    max_tokens: int = 0
    max_cost: str = ""
    changed: OnChanged = ""
    webhook: str = ""  # a URL, or the id of an endpoint of the gateway, that receives the event of its end


@dataclass(frozen=True, slots=True)
class BatchFiles:
    """Paths of a batch's files, on its machine. `record` is what a report is drawn from; `prices` may not exist."""

    input: Path
    output: Path
    errors: Path
    record: Path
    prices: Path


@dataclass(frozen=True, slots=True)
class Reason:
    """Reason for a wait, and its minimum duration if that is known. If nothing waits, `kind` and `words` are empty.

    `message` is what the server said, if its response is the reason.
    """

    kind: Kind = ""
    words: str = ""
    wait: timedelta = timedelta(0)
    message: str = ""


@dataclass(frozen=True, slots=True)
class BatchOrigin:
    """The request over HTTP that created a batch. All fields are empty for a batch of the command line.

    `project` is that of the API key, and `file_id` the input file. `window` is the completion window as it was given.
    The answers expire `output_ttl_s` after the batch has ended; 0: with the batch. `user` is the person who started it
    on the web page.
    """

    project: str = ""
    file_id: str = ""
    window: str = ""
    output_ttl_s: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """One batch. Times are Unix seconds. `answered` and `failed` count lines; tokens are those of its answers."""

    id: str
    status: BatchStatus
    input_name: str
    place: str  # machine and directory of its files
    created_at: int
    options: BatchOptions = field(default_factory=BatchOptions)
    metadata: dict[str, str] = field(default_factory=dict)
    stamps: dict[str, int] = field(default_factory=dict)  # status -> when it came to it
    errors: tuple[Problem, ...] = ()
    errors_left_out: int = 0  # problems of the input that `errors` does not list
    total: int = 0
    answered: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # of the prompts'
    reasoning_tokens: int = 0  # of the completions'
    uncounted: int = 0  # answers that say nothing of tokens, as streamed ones do
    withdrawn_usage: dict[str, int] = field(default_factory=dict)  # part of the tokens that no line has
    model: str = ""  # where all answers are of one
    unanswered_calls: int = 0
    codes: dict[str, int] = field(default_factory=dict)  # failed lines, by code
    cost: str = ""  # exact; empty: without prices
    currency: str = ""
    unpriced: int = 0  # answers that are not in the cost: their model has no price
    per_second_now: float = 0.0  # lines; 0 when nothing is in progress
    per_second: float = 0.0  # on average, since it was last taken up
    seconds_left: float | None = None
    paused: str = ""  # why nothing is sent; empty: it is not paused
    paused_by: PausedBy = ""
    careful: bool = False  # one line is sent first, to check whether the account still rejects
    held_models: tuple[str, ...] = ()  # the plan lacks them: their lines are left, all others go on
    waiting: Reason = field(default_factory=Reason)  # as of `updated_at`
    updated_at: int = 0  # when its supervisor last wrote this
    files: BatchFiles | None = None  # of `mira-queue run`: the user's own; None: in the spool of its machine
    account: str = ""  # id of the account of its jobs; empty: an older version has not recorded it
    group: str = ""  # of its jobs; empty: it never had any
    origin: BatchOrigin = field(default_factory=BatchOrigin)
    unknown: dict[str, Any] = field(
        default_factory=dict, compare=False
    )  # fields of a newer version, which are written again

    @property
    def is_run(self) -> bool:
        """Return True if `mira-queue run` executes it: its files are the record, and no other process takes it over."""
        return self.files is not None

    @property
    def done(self) -> int:
        """Lines that have an answer or an error."""
        return self.answered + self.failed

    def moved(self, status: BatchStatus, now_s: int, **changes: Any) -> Self:
        """Return the batch with another status from now on. If it resumes, its end is forgotten."""
        kept = {
            name: when
            for name, when in self.stamps.items()
            if status is not BatchStatus.IN_PROGRESS or name not in _ENDS
        }
        return replace(self, status=status, stamps={**kept, status.value: now_s}, **changes)

    def to_json(self) -> bytes:
        found = orjson.loads(_json_of_batches().dump_json(self))
        unknown = found.pop(UNKNOWN)
        parts = {name: {**unknown.pop(name, {}), **found[name]} for name in _PARTS}
        return orjson.dumps({**unknown, **found, **parts})

    @classmethod
    def from_json(cls, text: bytes) -> Batch:
        """Return the batch that `to_json` wrote, by this version or another one."""
        found = orjson.loads(text)
        unknown = unknown_fields(cls, found)
        for name, part in _PARTS.items():
            if in_part := unknown_fields(part, found.get(name, {})):
                unknown[name] = in_part
        return replace(_json_of_batches().validate_json(text), unknown=unknown)

    @property
    def ended_at(self) -> int:
        """The time at which it came to its final status; 0 if it has not ended."""
        return self.stamps.get(self.status.value, self.updated_at) if self.status.is_final else 0

    def file_id(self, kind: FileKind) -> str:
        """Return the id of its input, answers, or errors in the HTTP API."""
        if kind is FileKind.INPUT and self.origin.file_id:
            return self.origin.file_id
        return str(FileId(self.created_at * 1000, kind, self.id.removeprefix(PREFIX)))

    def to_object(self) -> dict[str, Any]:
        """The batch as OpenAI's clients know it."""
        machine = self.place.partition(":")[0]
        output, errors = (
            (f"{machine}:{self.files.output}", f"{machine}:{self.files.errors}")
            if self.files
            else (f"{self.place}/output.jsonl", f"{self.place}/errors.jsonl")
        )
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": ENDPOINT,
            "model": self.model or None,
            "errors": {"object": "list", "data": [each.to_object() for each in self.errors]} if self.errors else None,
            "input_file_id": self.file_id(FileKind.INPUT),
            "completion_window": self.origin.window or "24h",
            "status": self.status,
            "output_file_id": self.file_id(FileKind.OUTPUT) if self.answered else None,
            "error_file_id": self.file_id(FileKind.ERRORS) if self.failed else None,
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
                "input_tokens_details": {"cached_tokens": self.cached_tokens},
                "output_tokens": self.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
                "total_tokens": self.prompt_tokens + self.completion_tokens,
            },
            "metadata": self.metadata or None,
            "mira": {
                "paused": self.paused or None,
                "paused_by": self.paused_by or None,
                "held_models": list(self.held_models),
                "waiting_for": self.waiting.words or None,
                "server_message": self.waiting.message or None,
                "waiting_until": math.ceil(self.updated_at + self.waiting.wait.total_seconds())
                if self.waiting.wait
                else None,
                "failed_by_code": self.codes,
                "cost": self.cost or None,
                "currency": self.currency or None,
                "answers_without_price": self.unpriced,
                "answers_without_usage": self.uncounted,
                "lines_per_second": {"now": round(self.per_second_now, 3), "average": round(self.per_second, 3)}
                if self.per_second
                else None,
                "seconds_left": None if self.seconds_left is None else round(self.seconds_left, 1),
                "unanswered_calls": self.unanswered_calls,
                "errors_left_out": self.errors_left_out,
                "account": self.account or None,
                "input_name": self.input_name,
                "files": self.place,
                "output": output if self.answered else None,
                "errors": errors if self.failed else None,
                "updated_at": self.updated_at or None,
                "options": asdict(self.options),
            },
        }


# Fields of a batch that are records themselves: a newer version may have added fields to them, too.
_PARTS: dict[str, type] = {"options": BatchOptions, "origin": BatchOrigin}


@cache
def _json_of_batches() -> TypeAdapter[Batch]:
    return TypeAdapter(Batch)


def new_batch_id(*, simulated: bool = False, identity: str = "") -> str:
    """Return a new id, or that of the batch that a request creates, given the request's identity: a UUID."""
    return f"{SIMULATED_PREFIX if simulated else PREFIX}{identity.replace('-', '') or uuid.uuid4().hex}"


def run_batch_id(group: str, *, simulated: bool) -> str:
    """Return the id of the run that writes the files of a group; one that is simulated is in a queue of its own."""
    return f"{SIMULATED_PREFIX if simulated else PREFIX}{group}"


def is_simulated(batch_id: str) -> bool:
    return batch_id.startswith(SIMULATED_PREFIX)


def is_batch_id(text: str) -> bool:
    """Whether an id names a batch and not a job."""
    return text.startswith(PREFIX)
